/** Puts the live view, the grid of steps, the rating of pictures and the embeddings tab into ComfyUI's page. */

import { foldAdvanced, holdInFrame } from "./advanced_inputs.js";
import { addStyles } from "./dom.js";
import { acceptDrops, addEmbeddingsTab } from "./embeddings_tab.js";
import { api, app, whenQueued } from "./host.js";
import { failed, forgive, markedSlots, refusedBefore } from "./refusals.js";
import { addRatingPanel, ratedElsewhere, refreshRatings } from "./rating_node.js";
import { EVENT } from "./runs.js";
import { addStepGrid } from "./step_grid.js";
import { orderTemplates } from "./templates.js";
import { addTrainingPanel, announce, catchUp } from "./training_panel.js";

const TRAIN = ["TextualInversionTrain", "TextualInversionTrainNegative", "TextualInversionTrainRatings"];
const CHOOSE = "TextualInversionChoose";
const RATE = "TextualInversionRate";

// At once, not in setup: the page warns of messages that nobody listens to.
api.addEventListener(EVENT, ({ detail }) => announce(detail));
api.addEventListener("execution_error", failed);
api.addEventListener("executed", ({ detail }) => ratedElsewhere(detail));
whenQueued(forgive, refusedBefore);
// After a lost connection messages are missing.
api.addEventListener("reconnected", catchUp);
api.addEventListener("reconnected", refreshRatings);
// Before the page asks for them.
orderTemplates(api);

app.registerExtension({
  name: "textual-inversion",
  setup() {
    addStyles();
    document.head.append(markedSlots);
    addEmbeddingsTab();
    acceptDrops();
  },
  nodeCreated(node) {
    if (TRAIN.includes(node.comfyClass)) {
      foldAdvanced(node);
      addTrainingPanel(node);
      holdInFrame(node);
    }
    if (node.comfyClass === CHOOSE) addStepGrid(node);
    if (node.comfyClass === RATE) addRatingPanel(node);
  },
  afterConfigureGraph: catchUp,
});

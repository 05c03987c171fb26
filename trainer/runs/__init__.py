"""A whole training as users see it: kept in a folder, resumed, watched, steered, shown.

`training` runs one from its checks to the finished word; the node and the command line only say
how to save and how to show. May import everything below it: `learning`, `files`, `data` and so on.
"""

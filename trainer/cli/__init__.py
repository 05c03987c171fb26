"""The command line. `main` is where it starts; each other module is a group of commands.

May import everything of the trainer; nothing of the trainer imports it.
"""

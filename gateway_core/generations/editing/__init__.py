"""Changes of the configuration file through the control plane.

`concealed` shows the file without its secrets and puts them back, `keyed` changes single keys in place, `powers` says
what only a person with access to the file may write, and `edits` does all of it in order. `generations/draft.py`
replaces the file.
"""

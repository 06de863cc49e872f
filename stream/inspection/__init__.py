"""
What `stream inspect` says of one user.

`reading` finds it on the broker, `portrait` makes sense of it, and `text` shows it.
"""

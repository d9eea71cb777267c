"""HTTP in front of a Flask application, whatever that is about: nothing here knows of federations.

gateway.py    a body only from whom the headers let in; who waits holds no thread
listening.py  a socket and its connections: how many, and how long each may take; TLS
"""

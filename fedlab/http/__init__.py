"""The HTTP of a federation, on both its sides.

server.py    a federation that listens: sockets, start and close
app.py       what every request is checked for, and how errors are said
access.py    who may do what
routes.py    what is answered
client.py    the other side: fetch, train, send
pages/       what a browser shows
"""

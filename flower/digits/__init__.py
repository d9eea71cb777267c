"""The federation of lesson 01 as a Flower app: client_app.py runs on every node, server_app.py
once."""

"""The web page: rendered on the server from the same views as the API, for people with a browser.

Every page works without JavaScript and under a strict content security policy. Nothing here
decides anything: it reads views, and appends what the API would append.
"""

"""Checkers for the exercises: a file a lesson. Each looks at an answer and says that it is right,
or gives one hint. It never raises, whatever it is given, and never shows the solution.
"""

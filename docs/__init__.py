"""The documents of this project, and the script that writes those made from the code."""

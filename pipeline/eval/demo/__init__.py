"""The demo: a page on which a picture becomes a depth map, and a click on two points tells which is nearer."""

package figure

// fs holds the figures of its area.
var fs = []Def{}

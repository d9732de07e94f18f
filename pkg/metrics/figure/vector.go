package figure

// vector holds the figures of its area.
var vector = []Def{}

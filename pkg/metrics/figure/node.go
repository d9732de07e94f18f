package figure

// node holds the figures of its area.
var node = []Def{}

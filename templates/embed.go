// Package templates owns the text this program renders: job and engine
// scripts, configuration of the monitors, dashboards, the report page. It is
// embedded into the binary and must not hold Go logic.
package templates

import "embed"

// FS holds every template by its file name.
//
//go:embed *.tmpl dashboards/*.json
var FS embed.FS

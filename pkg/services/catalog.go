package services

// Catalog lists every service: the only place a new one is named.
func Catalog() []Service {
	return []Service{vllm, chroma, lustre, monitors}
}

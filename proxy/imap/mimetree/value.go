package mimetree

import "mime"

const (
	maxValue  = 8 << 10 // bytes of a field value that are looked at for parameters
	maxParams = 100
)

func parseStrictly(s string) (string, map[string]string) {
	value, params, err := mime.ParseMediaType(s)
	if err != nil || len(params) > maxParams {
		return "", nil
	}
	return value, params
}

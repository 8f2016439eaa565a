// Package tlscert finds the certificate that the proxies show: the operator's, or one that is made at the first start.
package tlscert

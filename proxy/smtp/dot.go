package smtp

import "bytes"

// dotDecoder undoes the dot-stuffing of DATA (RFC 5321, 4.5.2) and finds its end. CRLF alone ends a line: the dot behind a bare
// LF or a bare CR is a dot like any other (4.1.1.4, 2.3.8).
type dotDecoder struct {
	midLine bool // not at the beginning of a line
	afterCR bool // the last byte was a carriage return
}

// decode hands the decoded bytes of src to emit, in order. It returns how many of src it consumed, which are all but a few that
// need more behind them to be understood, and whether the last of these ended the data.
func (d *dotDecoder) decode(src []byte, emit func([]byte)) (consumed int, done bool) {
	start := 0 // src[start:i] is decoded and not emitted
	i := 0
	for i < len(src) {
		if !d.midLine && src[i] == '.' {
			rest := src[i+1:]
			if bytes.HasPrefix(rest, []byte("\r\n")) {
				emitSome(emit, src[start:i])
				return i + 3, true
			}
			if len(rest) == 0 || len(rest) == 1 && rest[0] == '\r' {
				break // perhaps the end
			}
			emitSome(emit, src[start:i])
			i++
			start = i
			d.midLine, d.afterCR = true, false
			continue
		}
		lf := bytes.IndexByte(src[i:], '\n')
		if lf < 0 {
			d.midLine, d.afterCR = true, src[len(src)-1] == '\r'
			i = len(src)
			break
		}
		d.midLine = !(lf > 0 && src[i+lf-1] == '\r' || lf == 0 && d.afterCR)
		d.afterCR = false
		i += lf + 1
	}
	emitSome(emit, src[start:i])
	return i, false
}

func emitSome(emit func([]byte), p []byte) {
	if len(p) > 0 {
		emit(p)
	}
}

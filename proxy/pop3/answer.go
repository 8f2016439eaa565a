package pop3

// Response codes (RFC 2449, 8; RFC 3206).
const (
	codeInUse   = "IN-USE"
	codeAuth    = "AUTH"     // the credentials are the problem
	codeSysTemp = "SYS/TEMP" // try again later
	codeSysPerm = "SYS/PERM" // somebody has to repair something
)

// failure is a negative answer.
type failure struct {
	code string // response code, or ""
	text string // for people; never what the client sent
	bad  bool   // the command itself was wrong: these are counted
}

func (f *failure) Error() string { return f.text }

// bad is the answer to a command that is malformed, unknown, or given at the wrong time.
func bad(text string) *failure { return &failure{text: text, bad: true} }

// ok answers +OK. Errors of writing show when the next line is read, or at once in flush.
func (s *session) ok(text string) {
	s.conn.w.WriteString("+OK ")
	s.conn.w.WriteString(text)
	s.conn.w.WriteString("\r\n")
}

func (s *session) fail(f *failure) {
	s.conn.w.WriteString("-ERR ")
	if f.code != "" {
		s.conn.w.WriteString("[" + f.code + "] ")
	}
	s.conn.w.WriteString(f.text)
	s.conn.w.WriteString("\r\n")
}

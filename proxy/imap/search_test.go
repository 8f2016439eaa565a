package imap

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestSearch(t *testing.T) {
	w := newWorld(t)
	dates := []string{"2020-01-10", "2021-06-15", "2022-12-31", "2024-02-29"}
	texts := []string{
		testMessage(1),
		strings.Replace(testMessage(2), "This is", "Unlike others, this is", 1),
		nested,
		"Subject: =?utf-8?b?w4RwZmVs?= und Birnen\r\nCc: dave@example.com\r\nX-Empty:\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
			"S29uc3RhbnRpbm9wbGU=\r\n",
	}
	for i, text := range texts {
		path := w.deliver("", text, []string{"S", "", "SF", "RT"}[i])
		date, err := time.Parse("2006-01-02", dates[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, date, date); err != nil {
			t.Fatal(err)
		}
	}
	c := w.selected("INBOX")
	for query, want := range map[string]string{
		"ALL":                                 "1 2 3 4",
		"1:2":                                 "1 2",
		"*":                                   "4",
		"UID 2:3":                             "2 3",
		"SEEN":                                "1 3",
		"UNSEEN":                              "2 4",
		"FLAGGED SEEN":                        "3",
		"NOT FLAGGED":                         "1 2 4",
		"OR FLAGGED DELETED":                  "3 4",
		"ANSWERED":                            "4",
		"NEW":                                 "2",
		"RECENT":                              "2",
		"OLD":                                 "1 3 4",
		"SINCE 15-Jun-2021":                   "2 3 4",
		"BEFORE 15-Jun-2021":                  "1",
		"ON 29-Feb-2024":                      "4",
		"NOT SINCE 1-Jan-2022":                "1 2",
		"SENTON 2-Jan-2006":                   "1 2",
		"SENTSINCE 3-Jan-2006":                "3",
		"SENTBEFORE 3-Jan-2006":               "1 2",
		"SUBJECT number":                      "1 2",
		`SUBJECT "NUMBER 2"`:                  "2",
		"FROM bob":                            "1 2 3",
		"TO alice":                            "1 2 3",
		"CC dave":                             "4",
		"BCC x":                               "",
		`HEADER X-Empty ""`:                   "4",
		`HEADER Message-ID "n@example"`:       "3",
		`HEADER X-None ""`:                    "",
		"BODY message":                        "1 2",
		"BODY konstantinople":                 "4",
		"BODY inner":                          "3",
		`TEXT "plain text"`:                   "3",
		"TEXT example.net":                    "1 2 3",
		"NOT BODY message":                    "3 4",
		"OR BODY konstantinople FLAGGED":      "3 4",
		"LARGER 500":                          "3",
		"SMALLER 500":                         "1 2 4",
		"SMALLER 500 SINCE 1-Jan-2021":        "2 4", // the library forgets the SMALLER
		"SMALLER 500 LARGER 1":                "1 2 4",
		"NOT SMALLER 500":                     "3",
		"SMALLER 0":                           "",
		"SUBJECT SMALLER":                     "",
		"(1:3 (UNSEEN))":                      "2",
		"1:3 NOT (OR SEEN DELETED)":           "2",
		"CHARSET UTF-8 SUBJECT {6+}\r\näpfel": "4",
		"CHARSET UTF-8 BODY {7+}\r\ngrüße":    "3",
		"UID 1,3 NOT 3":                       "1",
		"UID * SMALLER 1 LARGER 0":            "",
	} {
		got := c.ok("SEARCH " + query)
		if len(got) != 1 || got[0] != strings.TrimSpace("* SEARCH "+want) {
			t.Errorf("SEARCH %s: %q, want %s", query, got, want)
		}
	}
	c.fails("SEARCH CHARSET KOI8-R ALL", "NO [BADCHARSET]")
	c.gives("SEARCH RETURN (MIN MAX COUNT) SEEN", "ALL 1,3 MIN 1 MAX 3 COUNT 2"[8:])
	c.gives("SEARCH RETURN () SEEN", " ALL 1,3")
	c.gives("UID SEARCH RETURN (ALL) NOT ALL", "UID")

	// RFC 5182
	c.ok("SEARCH RETURN (SAVE) UNSEEN")
	c.gives("FETCH $ UID", "* 2 FETCH", "* 4 FETCH")
	c.gives("UID SEARCH UID $ DELETED", "* SEARCH 4")
	c.gives("SEARCH NOT $", "* SEARCH 1 3")
	c.ok("SEARCH RETURN (SAVE MIN) ALL")
	if got := c.ok("FETCH $ UID"); len(got) != 1 {
		t.Errorf("SAVE MIN: %q", got)
	}
	c.ok("SEARCH RETURN (SAVE MIN MAX) ALL")
	if got := c.ok("FETCH $ UID"); len(got) != 2 {
		t.Errorf("SAVE MIN MAX: %q", got)
	}
	c.ok("SEARCH RETURN (SAVE MIN COUNT) ALL")
	if got := c.ok("FETCH $ UID"); len(got) != 4 {
		t.Errorf("SAVE MIN COUNT: %q", got)
	}
	c.ok("SEARCH RETURN (SAVE) SUBJECT nothing-has-this")
	if got := c.ok("FETCH $ UID"); len(got) != 0 {
		t.Errorf("nothing saved: %q", got)
	}
}

func TestWithoutSmaller(t *testing.T) {
	for in, want := range map[string]string{
		"a SEARCH SMALLER 10":                       "a SEARCH NOT LARGER 9",
		"a UID SEARCH (smaller 1) SEEN":             "a UID SEARCH (NOT LARGER 0) SEEN",
		"a SEARCH SMALLER 0":                        "a SEARCH NOT ALL",
		"a SEARCH SUBJECT SMALLER 5":                "a SEARCH SUBJECT SMALLER 5",
		"a SEARCH HEADER SMALLER SMALLER SMALLER 5": "a SEARCH HEADER SMALLER SMALLER NOT LARGER 4",
		`a SEARCH SUBJECT "SMALLER 5" SMALLER 3`:    `a SEARCH SUBJECT "SMALLER 5" NOT LARGER 2`,
		"a SEARCH SMALLER x":                        "a SEARCH SMALLER x",
		"a SEARCH SMALLER":                          "a SEARCH SMALLER",
		"a UID SEARCH UID * SMALLER 1 LARGER 0":     "a UID SEARCH UID * NOT LARGER 0 LARGER 0",
		"a UID SEARCH UID 1:* SMALLER 1":            "a UID SEARCH UID 1:* NOT LARGER 0",
		"a SEARCH UID *,1:2,* SMALLER 1":            "a SEARCH UID *,1:2,* NOT LARGER 0",
		`a SEARCH KEYWORD \Seen SMALLER 1`:          `a SEARCH KEYWORD \Seen NOT LARGER 0`,
		"a SEARCH (* SMALLER 1)":                    "a SEARCH (* NOT LARGER 0)",
		"a SEARCH SMALLER 1*":                       "a SEARCH SMALLER 1*",
		`a SEARCH SUBJECT "a" SMALLER "5"`:          `a SEARCH SUBJECT "a" NOT LARGER 4`,
		"a SEARCH OR SMALLER 5 SMALLER 6":           "a SEARCH OR NOT LARGER 4 NOT LARGER 5",
	} {
		if got := string(withoutSmaller([]byte(in + "\r\n"))); got != want+"\r\n" {
			t.Errorf("%s\n got %q\nwant %q", in, got, want)
		}
	}
}

package imap

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// A client library's whole day, over STARTTLS.
func TestClientLibrary(t *testing.T) {
	w := newWorld(t)
	updates := make(chan uint32, 16)
	c, err := imapclient.DialStartTLS(w.address, &imapclient.Options{
		TLSConfig: &tls.Config{InsecureSkipVerify: true},
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{
			Mailbox: func(data *imapclient.UnilateralDataMailbox) {
				if data.NumMessages != nil {
					updates <- *data.NumMessages
				}
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(c.Login(testUser, testPassword).Wait())
	if !c.Caps().Has(imap.CapIMAP4rev2) || !c.Caps().Has(imap.CapUIDPlus) {
		t.Errorf("capabilities: %v", c.Caps())
	}
	_, err = c.Enable(imap.CapUTF8Accept).Wait()
	check(err)
	check(c.Create("Büro/Briefe", nil).Wait())
	check(c.Subscribe("Büro/Briefe").Wait())
	list, err := c.List("", "*", &imap.ListOptions{ReturnSubscribed: true, ReturnStatus: &imap.StatusOptions{NumMessages: true}}).Collect()
	check(err)
	if len(list) != 3 || list[1].Mailbox != "Büro/Briefe" {
		t.Errorf("LIST: %+v %+v", *list[0], *list[len(list)-1])
	}

	appended := c.Append("Büro/Briefe", int64(len(nested)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen, "Later"}, Time: longAgo})
	_, err = io.WriteString(appended, nested)
	check(err)
	check(appended.Close())
	data, err := appended.Wait()
	check(err)
	if data.UID != 1 || data.UIDValidity == 0 {
		t.Errorf("APPENDUID: %+v", data)
	}

	selected, err := c.Select("Büro/Briefe", nil).Wait()
	check(err)
	if selected.NumMessages != 1 || selected.UIDNext != 2 {
		t.Errorf("SELECT: %+v", selected)
	}
	messages, err := c.Fetch(imap.UIDSetNum(1), &imap.FetchOptions{
		Flags: true, UID: true, Envelope: true, InternalDate: true, RFC822Size: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
		BodySection:   []*imap.FetchItemBodySection{{Part: []int{2, 1}, Peek: true}},
	}).Collect()
	check(err)
	if len(messages) != 1 {
		t.Fatalf("FETCH: %+v", messages)
	}
	m := messages[0]
	if m.Envelope.Subject != "café" || m.RFC822Size != int64(len(nested)) || !m.InternalDate.Equal(longAgo) || len(m.Flags) != 2 {
		t.Errorf("FETCH: %+v, %+v", m, m.Envelope)
	}
	if text := string(m.BodySection[0].Bytes); text != "plain text" {
		t.Errorf("BODY[2.1]: %q", text)
	}
	if multi, ok := m.BodyStructure.(*imap.BodyStructureMultiPart); !ok || len(multi.Children) != 3 || multi.Extended.Params["boundary"] != "outer" {
		t.Errorf("BODYSTRUCTURE: %+v", m.BodyStructure)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Body: []string{"HTML"}}, nil).Wait()
	check(err)
	if uids := found.AllUIDs(); len(uids) != 0 && uids[0] != 1 {
		t.Errorf("SEARCH: %v", uids)
	}
	copied, err := c.Copy(imap.SeqSetNum(1), "INBOX").Wait()
	check(err)
	if copied.DestUIDs.String() != "1" {
		t.Errorf("COPYUID: %+v", copied)
	}
	moved, err := c.Move(imap.UIDSetNum(1), "INBOX").Wait()
	check(err)
	if moved.DestUIDs.String() != "2" {
		t.Errorf("COPYUID of MOVE: %+v", moved)
	}

	_, err = c.Select("INBOX", nil).Wait()
	check(err)
	idle, err := c.Idle()
	check(err)
	w.deliver("", testMessage(1), "")
	w.changes.changed("")
	for timeout := time.After(10 * time.Second); ; {
		select {
		case n := <-updates:
			if n != 3 {
				continue
			}
		case <-timeout:
			t.Fatal("IDLE told nothing")
		}
		break
	}
	check(idle.Close())
	check(idle.Wait())
	check(c.Store(imap.SeqSetNum(1, 2), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close())
	expunged, err := c.Expunge().Collect()
	check(err)
	if len(expunged) != 2 {
		t.Errorf("EXPUNGE: %v", expunged)
	}
	_, err = c.Select("Nowhere", nil).Wait()
	if err == nil || !strings.Contains(err.Error(), "NONEXISTENT") {
		t.Errorf("SELECT Nowhere: %v", err)
	}
	check(c.Logout().Wait())
}

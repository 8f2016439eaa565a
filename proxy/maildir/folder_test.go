package maildir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func wantFolders(t *testing.T, home string, want ...string) {
	t.Helper()
	got, err := Folders(home)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFolderPath(t *testing.T) {
	for folder, want := range map[string]string{
		"":       "/mail/alice",
		".A":     "/mail/alice/.A",
		".A.B c": "/mail/alice/.A.B c",
		"A":      "", ".": "", "..": "", "../bob": "", ".A/../..": "", ".A..B": "", ".A.": "", ".A\x00": "",
		"." + strings.Repeat("x", 255): "",
	} {
		if got := FolderPath("/mail/alice", folder); got != want {
			t.Errorf("%q: %q", folder, got)
		}
	}
}

func TestFolders(t *testing.T) {
	home := newMaildir(t)
	wantFolders(t, home, "", ".Sent")
	if err := CreateFolder(home, ".Sent"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	if err := CreateFolder(home, ".A..B"); !errors.Is(err, ErrFolderName) {
		t.Errorf("bad name: %v", err)
	}
	if _, err := os.Stat(filepath.Join(home, ".Sent", "maildirfolder")); err != nil {
		t.Error(err)
	}

	// Half a folder is none, and can be completed.
	if err := os.MkdirAll(filepath.Join(home, ".Half", "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantFolders(t, home, "", ".Sent")
	if err := CreateFolder(home, ".Half"); err != nil {
		t.Fatal(err)
	}
	wantFolders(t, home, "", ".Half", ".Sent")

	if err := DeleteFolder(home, ".Half"); err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string]error{".Half": fs.ErrNotExist, "": fs.ErrInvalid, "..": ErrFolderName} {
		if err := DeleteFolder(home, folder); !errors.Is(err, want) {
			t.Errorf("delete %q: %v", folder, err)
		}
	}
	wantFolders(t, home, "", ".Sent")
}

func TestRenameFolder(t *testing.T) {
	home := newMaildir(t)
	for _, folder := range []string{".A", ".A.B", ".A.B.C", ".AB", ".X.B"} {
		if err := CreateFolder(home, folder); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		from, to string
		want     error
	}{
		{".A", ".X", fs.ErrExist}, // .A.B would become .X.B
		{".A", ".Sent", fs.ErrExist},
		{".A", ".A.B.D", ErrFolderName},
		{".None", ".Y", fs.ErrNotExist},
		{"", ".Y", ErrFolderName},
		{".A", "." + strings.Repeat("x", 253), ErrFolderName}, // its children would be too long
	} {
		if err := RenameFolder(home, c.from, c.to); !errors.Is(err, c.want) {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		}
	}
	wantFolders(t, home, "", ".A", ".A.B", ".A.B.C", ".AB", ".Sent", ".X.B")
	if err := RenameFolder(home, ".A", ".Y.Z"); err != nil {
		t.Fatal(err)
	}
	wantFolders(t, home, "", ".AB", ".Sent", ".X.B", ".Y.Z", ".Y.Z.B", ".Y.Z.B.C")
	if !FolderExists(home, ".Y.Z.B") || FolderExists(home, ".A") || FolderExists(home, "..") {
		t.Error("FolderExists")
	}
}

package maildir

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrFolderName is the error of folder names that Maildir++ cannot have; test with errors.Is.
var ErrFolderName = fmt.Errorf("maildir: not a folder name: %w", fs.ErrInvalid)

// ValidFolder says whether a name can be a folder's: "" for the INBOX, else ".A" or ".A.B": levels that are not empty, each
// behind a dot, no slash, no NUL, 255 bytes at most.
func ValidFolder(folder string) bool {
	if folder == "" {
		return true
	}
	return folder[0] == '.' && len(folder) <= 255 && !strings.HasSuffix(folder, ".") && !strings.Contains(folder, "..") &&
		!strings.ContainsAny(folder, "/\x00")
}

// FolderPath returns the path of a folder in the Maildir++ at home, or "" when the name is not a folder's (ValidFolder): no
// system call finds anything at the path "".
func FolderPath(home, folder string) string {
	path, err := folderPath(home, folder)
	if err != nil {
		return ""
	}
	return path
}

func folderPath(home, folder string) (string, error) {
	if !ValidFolder(folder) {
		return "", &os.PathError{Op: "open", Path: folder, Err: ErrFolderName}
	}
	if folder == "" {
		return home, nil
	}
	return home + "/" + folder, nil
}

// Folders returns the folders of the Maildir++ at home, sorted; the INBOX, "", is the first. What has no cur/ is no folder.
func Folders(home string) ([]string, error) {
	entries, err := os.ReadDir(home)
	if err != nil {
		return nil, err
	}
	var folders []string
	for _, e := range entries {
		switch {
		case !e.IsDir():
		case e.Name() == "cur":
			folders = append(folders, "")
		case e.Name()[0] == '.' && ValidFolder(e.Name()):
			if isFolder(home + "/" + e.Name()) {
				folders = append(folders, e.Name())
			}
		}
	}
	slices.Sort(folders)
	return folders, nil
}

// isFolder says whether dir has a cur/.
func isFolder(dir string) bool {
	var st unix.Stat_t
	return unix.Lstat(dir+"/cur", &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// FolderExists says whether the Maildir++ at home has the folder.
func FolderExists(home, folder string) bool {
	return ValidFolder(folder) && isFolder(FolderPath(home, folder))
}

// CreateFolder makes a folder; fs.ErrExist when there is one. cur/, which makes it a folder, is made last: a creation that was
// cut off half way is not seen, and is completed by the next one.
func CreateFolder(home, folder string) error {
	dir, err := folderPath(home, folder)
	if err != nil {
		return err
	}
	made := []string{dir, dir + "/tmp", dir + "/new"}
	for _, d := range made {
		if err := os.Mkdir(d, 0o700); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if folder != "" { // Maildir++ marks all but the INBOX
		fd, err := openRetrying(dir+"/maildirfolder", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return &os.PathError{Op: "close", Path: dir + "/maildirfolder", Err: err}
		}
	}
	return os.Mkdir(dir+"/cur", 0o700)
}

// DeleteFolder removes a folder with its messages. Folders below it (".A.B" below ".A") stay; the INBOX cannot be removed.
func DeleteFolder(home, folder string) error {
	dir, err := folderPath(home, folder)
	if err != nil {
		return err
	}
	if folder == "" {
		return &os.PathError{Op: "remove", Path: dir, Err: fs.ErrInvalid}
	}
	if !isFolder(dir) {
		return &os.PathError{Op: "remove", Path: dir, Err: fs.ErrNotExist}
	}
	return os.RemoveAll(dir)
}

// RenameFolder renames a folder and all folders below it; fs.ErrExist when a new name is taken. Each folder's rename is atomic,
// all of them together are not: a parent goes before its children, so one that was cut off is completed by renaming these.
func RenameFolder(home, from, to string) error {
	if from == "" || to == "" || !ValidFolder(from) || !ValidFolder(to) || strings.HasPrefix(to, from+".") {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: ErrFolderName}
	}
	folders, err := Folders(home)
	if err != nil {
		return err
	}
	if !slices.Contains(folders, from) {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrNotExist}
	}
	var old, renamed []string
	for _, f := range folders { // sorted: parents first
		below, ok := strings.CutPrefix(f, from)
		if !ok || below != "" && below[0] != '.' {
			continue
		}
		if target := to + below; !ValidFolder(target) {
			return &os.LinkError{Op: "rename", Old: f, New: target, Err: ErrFolderName}
		} else if slices.Contains(folders, target) {
			return &os.LinkError{Op: "rename", Old: f, New: target, Err: fs.ErrExist}
		}
		old, renamed = append(old, f), append(renamed, to+below)
	}
	for i := range old {
		err := unix.Renameat2(unix.AT_FDCWD, home+"/"+old[i], unix.AT_FDCWD, home+"/"+renamed[i], unix.RENAME_NOREPLACE)
		if err != nil {
			return &os.LinkError{Op: "rename", Old: old[i], New: renamed[i], Err: err}
		}
	}
	return nil
}

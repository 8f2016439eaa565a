// Package access opens accounts to those who know a password of theirs, and sees to it that no session outlasts its password:
// it follows the directory, and ends what a record there no longer allows, whichever node changed it.
package access

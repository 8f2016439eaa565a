// Package throttle slows guessing at passwords down. Each login that fails makes the next one wait, from the same network and of the same
// account, longer each time, on all nodes of the cluster; what failed is forgotten after an hour without another.
//
// A stranger's guesses never lock an owner out. An account's delay is short, and does not add up: whoever comes waits for as long, however
// many others do. And who has logged in to an account from a network before does not wait for what others did.
package throttle

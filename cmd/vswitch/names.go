package main

import (
	"crypto/rand"
	"encoding/hex"
)

// The words of a name nobody chose: short, distinct when spoken, harmless.
var (
	adjectives = [...]string{
		"agile", "amber", "bold", "brave", "brisk", "calm", "clear", "clever",
		"cosmic", "crisp", "deft", "eager", "early", "fair", "fleet", "fresh",
		"gentle", "glad", "grand", "happy", "hardy", "humble", "keen", "kind",
		"lively", "lucid", "lunar", "mellow", "merry", "neat", "nimble", "noble",
		"polar", "proud", "quick", "quiet", "rapid", "ready", "royal", "rustic",
		"sharp", "silent", "solar", "solid", "spry", "steady", "stoic", "sunny",
		"swift", "tidy", "tough", "trusty", "urban", "vivid", "warm", "wise",
	}
	nouns = [...]string{
		"alder", "aspen", "badger", "beech", "birch", "bison", "cedar", "comet",
		"condor", "coral", "crane", "curlew", "delta", "dune", "egret", "elm",
		"falcon", "fern", "finch", "fjord", "fox", "gecko", "grove", "gull",
		"harbor", "hawk", "hazel", "heron", "ibex", "iris", "jay", "kestrel",
		"lark", "linden", "lynx", "maple", "marten", "mesa", "moose", "newt",
		"oak", "orca", "osprey", "otter", "owl", "pine", "plover", "puffin",
		"quail", "raven", "reef", "robin", "sable", "seal", "spruce", "stork",
		"swan", "tern", "thrush", "tundra", "walrus", "willow", "wren", "yew",
	}
)

// randomName makes a name like calm-heron-3fa9. The words are for people; the
// 16 bits behind them keep a thousand containers apart.
func randomName() string {
	var b [4]byte
	rand.Read(b[:])
	return adjectives[int(b[0])%len(adjectives)] + "-" + nouns[int(b[1])%len(nouns)] + "-" + hex.EncodeToString(b[2:])
}

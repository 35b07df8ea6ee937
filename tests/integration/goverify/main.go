// Goverify checks an export of Trueup with nothing but Go's own implementation of signed notes and
// Merkle trees, the one that guards the Go module ecosystem:
//
//	goverify DIR VERIFIER-KEY [EARLIER-CHECKPOINT]
//
// It verifies the checkpoint's signature, every entry's inclusion through tiles that are themselves
// verified against the root, every payload and body against the digests that lead to it, that the
// log extends the earlier checkpoints, and that there is no file besides.
package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("NOT VERIFIED:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: goverify DIR VERIFIER-KEY [EARLIER-CHECKPOINT]")
	}
	dir := args[0]
	verifier, err := note.NewVerifier(args[1])
	if err != nil {
		return err
	}
	tree, err := open(filepath.Join(dir, "checkpoint"), verifier.Name(), verifier)
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, folder(dir))
	what := newContents(dir)
	if err := everyEntry(dir, tree, hashes, what); err != nil {
		return err
	}
	if err := what.complete(); err != nil {
		return err
	}
	known, err := what.verifiers()
	if err != nil {
		return err
	}
	earlier, err := filepath.Glob(filepath.Join(dir, "checkpoints", "*"))
	if err != nil {
		return err
	}
	for _, path := range earlier {
		size, err := extends(path, verifier.Name(), tree, hashes, known...)
		if err != nil {
			return err
		}
		if filepath.Base(path) != fmt.Sprintf("%020d", size) {
			return fmt.Errorf("%s is the checkpoint of %d entries", path, size)
		}
		what.expected[path] = true
	}
	if err := nothingElse(dir, tree, what); err != nil {
		return err
	}
	if len(args) > 2 {
		size, err := extends(args[2], verifier.Name(), tree, hashes, verifier)
		if err != nil {
			return err
		}
		fmt.Println("extends", size)
	}
	fmt.Println("verified", tree.N)
	return nil
}

// extends proves that the log extends the checkpoint in a file, and returns its size.
func extends(path, name string, tree tlog.Tree, hashes tlog.HashReader, by ...note.Verifier) (int64, error) {
	earlier, err := open(path, name, by...)
	if err != nil {
		return 0, err
	}
	proof, err := tlog.ProveTree(tree.N, earlier.N, hashes)
	if err != nil {
		return 0, err
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, earlier.N, earlier.Hash); err != nil {
		return 0, fmt.Errorf("consistency with %d entries: %w", earlier.N, err)
	}
	return earlier.N, nil
}

// open reads a checkpoint: C2SP tlog-checkpoint, of which go.sum's own format is a variant.
func open(path, name string, by ...note.Verifier) (tlog.Tree, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, err
	}
	signed, err := note.Open(data, note.VerifierList(by...))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("%s: %w", path, err)
	}
	for _, signature := range signed.Sigs {
		// Package note lets bits pass that stand for nothing.
		if _, err := base64.StdEncoding.Strict().DecodeString(signature.Base64); err != nil {
			return tlog.Tree{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	if len(signed.UnverifiedSigs) > 0 {
		return tlog.Tree{}, fmt.Errorf("%s is signed by an unknown key", path)
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 || lines[0] != name {
		return tlog.Tree{}, fmt.Errorf("%s is no checkpoint of %s", path, name)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// everyEntry proves each entry of each bundle, one by one, and what it names.
func everyEntry(dir string, tree tlog.Tree, hashes tlog.HashReader, what *contents) error {
	for first := int64(0); first < tree.N; first += 256 {
		width := min(256, int(tree.N-first))
		bundle := tlog.Tile{H: 8, L: -1, N: first / 256, W: width}
		number := strings.TrimPrefix(bundle.Path(), "tile/8/data/")
		path := filepath.Join(dir, "tile/entries", number)
		what.expected[path] = true
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		payloads, err := what.payloads(number, width)
		if err != nil {
			return fmt.Errorf("position %d: %w", first+1, err)
		}
		for index := first; index < first+int64(width); index++ {
			entry, rest, err := next(data)
			if err != nil {
				return fmt.Errorf("position %d: %w", index+1, err)
			}
			data = rest
			proof, err := tlog.ProveRecord(tree.N, index, hashes)
			if err != nil {
				return fmt.Errorf("position %d: %w", index+1, err)
			}
			leaf := tlog.RecordHash(entry)
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, leaf); err != nil {
				return fmt.Errorf("position %d: %w", index+1, err)
			}
			var payload []byte
			if payloads != nil {
				payload = payloads[index-first]
			}
			if err := what.event(index+1, entry, payload); err != nil {
				return fmt.Errorf("position %d: %w", index+1, err)
			}
		}
		if len(data) > 0 {
			return fmt.Errorf("position %d: more behind it", first+int64(width))
		}
	}
	return nil
}

// next takes an entry off a bundle.
func next(data []byte) ([]byte, []byte, error) {
	if len(data) < 2 || len(data) < 2+int(data[0])<<8+int(data[1]) {
		return nil, nil, fmt.Errorf("the bundle is cut off")
	}
	end := 2 + int(data[0])<<8 + int(data[1])
	return data[2:end], data[end:], nil
}

// folder reads tiles of height 8 from a C2SP tlog-tiles layout.
type folder string

func (f folder) Height() int { return 8 }

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(string(f), nameOf(tile)))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func nameOf(tile tlog.Tile) string { return strings.Replace(tile.Path(), "tile/8/", "tile/", 1) }

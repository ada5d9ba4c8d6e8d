// Package babble makes up what people might say, for benchmarks of the archive and its search.
package babble

import (
	"math/rand/v2"
	"strings"
)

// Vocabulary makes up words; a few are said often and most are not, as in any language. It
// makes up the same ones each time. Only one goroutine may use it.
type Vocabulary struct {
	Words []string // The commonest first.
	Rand  *rand.Rand
	zipf  *rand.Zipf
}

// New returns a vocabulary of some 50,000 words.
func New() *Vocabulary {
	v := &Vocabulary{Rand: rand.New(rand.NewPCG(1, 2)), Words: make([]string, 50_001)}
	v.zipf = rand.NewZipf(v.Rand, 1.1, 5, uint64(len(v.Words)-1))
	// Letters begin words as often as they do in English.
	const first = "ttttttttaaaaaaawwwwwsssssooooiiiihhhhcccbbbppfffmmmddlrgneyujkvqz"
	for i := range v.Words {
		w := []byte{first[v.Rand.IntN(len(first))]}
		for len(w) < 2+v.Rand.IntN(3)+i%7 {
			w = append(w, byte('a'+v.Rand.IntN(26)))
		}
		v.Words[i] = string(w)
	}
	return v
}

// Word returns one, a common one more often.
func (v *Vocabulary) Word() string { return v.Words[v.zipf.Uint64()] }

// Sentence returns 3 to 16 words.
func (v *Vocabulary) Sentence() string {
	said := make([]string, 3+v.Rand.IntN(14))
	for i := range said {
		said[i] = v.Word()
	}
	return strings.Join(said, " ")
}

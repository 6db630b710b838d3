package pcm

import "github.com/zaf/g711"

// A Law is one of the two companding laws of ITU-T G.711.
type Law uint8

// The laws of G.711. Their RTP payload types are 0 and 8 (RFC 3551 section 6).
const (
	Mu Law = iota
	A
)

// The tables are filled once, before main, and only read afterwards. They are
// indexed by law&1, so that a Law from nowhere cannot reach beyond them.
var (
	encodeTable    [2][1 << 16]byte
	decodeTable    [2][256]int16
	transcodeTable [2][256]byte // by the law that is read
)

func init() {
	for i := range 1 << 16 {
		encodeTable[Mu][i] = g711.EncodeUlawFrame(int16(uint16(i)))
		encodeTable[A][i] = g711.EncodeAlawFrame(int16(uint16(i)))
	}
	for i := range 256 {
		decodeTable[Mu][i] = g711.DecodeUlawFrame(uint8(i))
		decodeTable[A][i] = g711.DecodeAlawFrame(uint8(i))
		transcodeTable[Mu][i] = g711.Ulaw2AlawFrame(uint8(i))
		transcodeTable[A][i] = g711.Alaw2UlawFrame(uint8(i))
	}
}

// Encode compands src into dst and returns the number of samples, the smaller
// of both lengths. It does not allocate.
func (l Law) Encode(dst []byte, src []int16) int {
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	table := &encodeTable[l&1]
	for i, s := range src {
		dst[i] = table[uint16(s)]
	}
	return n
}

// Decode expands src into dst and returns the number of samples, the smaller
// of both lengths. It does not allocate.
func (l Law) Decode(dst []int16, src []byte) int {
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	table := &decodeTable[l&1]
	for i, b := range src {
		dst[i] = table[b]
	}
	return n
}

// Silence is the code word of a sample of value zero.
func (l Law) Silence() byte {
	if l&1 == A {
		return 0xD5
	}
	return 0xFF
}

// String is the encoding name of SDP (RFC 3551 section 6): PCMU or PCMA.
func (l Law) String() string {
	if l&1 == A {
		return "PCMA"
	}
	return "PCMU"
}

// Transcode copies src to dst, from one law to the other where they differ, by
// the table of G.711, and returns the number of samples, the smaller of both
// lengths. dst and src may be the same slice. It does not allocate.
func Transcode(dst, src []byte, from, to Law) int {
	if from&1 == to&1 {
		return copy(dst, src)
	}
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	table := &transcodeTable[from&1]
	for i, b := range src {
		dst[i] = table[b]
	}
	return n
}

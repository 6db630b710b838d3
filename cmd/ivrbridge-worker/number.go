package main

import (
	"strconv"
	"strings"
)

var (
	small = strings.Fields("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
	tens  = strings.Fields("zero ten twenty thirty forty fifty sixty seventy eighty ninety")
)

// number says digits: as a number up to 999999, one by one where they are more,
// or begin with a zero.
func number(digits string) []string {
	n, err := strconv.Atoi(digits)
	if err != nil || len(digits) > 6 || len(digits) > 1 && digits[0] == '0' {
		words := make([]string, 0, len(digits))
		for _, d := range digits {
			words = append(words, small[d-'0'])
		}
		return words
	}
	return cardinal(n)
}

func cardinal(n int) []string {
	switch {
	case n < 20:
		return []string{small[n]}
	case n < 100:
		return rest([]string{tens[n/10]}, n%10)
	case n < 1000:
		return rest([]string{small[n/100], "hundred"}, n%100)
	}
	return rest(append(cardinal(n/1000), "thousand"), n%1000)
}

func rest(words []string, n int) []string {
	if n == 0 {
		return words
	}
	return append(words, cardinal(n)...)
}

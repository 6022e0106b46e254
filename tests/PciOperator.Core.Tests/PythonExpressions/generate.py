#!/usr/bin/env python3.11
"""Writes expressions.jsonl.gz: regular expressions, and which of the 256 bus numbers each matches (re.match), as a
hexadecimal number whose lowest bit is bus 00; null: not an expression. Arguments: a seed and how many."""
import gzip
import json
import random
import re
import sys
import warnings

WRITTEN = [
    '8', '8[1-3]', '(8|9)1', '.*', '', 'ff$', '0{2}', '0{2', '{2}', 'a{,2}b', 'a{2,1}', '[^0-9]', '[]0]', '[^]0]', '[0-9-[1]]', '1[0-9-[1]]', '[a-f-[b]]', '[a-\\d]', '[\\d-a]', '[\\d-]0',
    '1++', '1*+', '1?+', '1{1}+', '1**', '1+?0', '(?>1|10)0', '\\_', '\\U00000030', '\\u0030', '\\x30', '\\x3', '\\400', '[\\400]', '\\60', '\\18', '\\060', '[\\60]', '[\\8]', '(0)\\1', '(0)\\10', '\\1(0)',
    '(?a)0', '(?u)0', '(?a:0)', '(?L)0', '(?au)0', '(?x)10 # c', '(?x) 1 [ 0] ', '(?x: 1 0 )0 ', '1(?i)0', '(0(?i))', '|(?i)0', '(?i)(?x)A 0', '(?#c)(?i)A', '(?-i)10', '(?n)10', '(?i-i:0)', '(?i-:0)', '(?--i:0)',
    '(?i:A)0', '(?i)A0', '(?i)(?-i:A)0', '(?P<a>1)(?P<a>0)', '(?P<1>1)', '(?P<a>1)(?P=a)', '(?P<a>1(?P=a))', '(?P=b)', '(?P<a>.)(?:x)?\\1', '(.)(?P<a>.)\\2', '(?<a>1)', "(?'a'1)", '\\k<a>', '\\z', '\\Z', '0\\Z', '00\\Z',
    '(?<=0|11)0', '(?<=a*)0', '(?<=a{1,2})0', '(?<=ab?)0', '(?<!0*)0', '.(?<=0)0', '.(?<!0|1)0', '(.)(?<=\\1)0', '(?<=(.)\\1)0', '(0)?(?(1)1|2)', '(?P<a>0)?(?(a)1|2)', '(?(1)0)', '(0)(?(1)1|2|3)', '(?(0)0)', '(?(b)0)',
    '^0', '^*0', '$*', '\\b0', '\\b*0', '(?=0)*1', '(?=.0)1', '(?!0)', '(^)*0', '()*', '(0', '0)', '[0', '\\', '*', '+0', '0|*', 'a|', '\\p{L}', '\\pL', '\\e', '[[:digit:]]', '[a&&b]', '(?P>a)', '(?R)', '(?|0)', '(?C)', '\\N{DIGIT ZERO}',
    '\u0660', '\\\u0660', '\U0001d7d8*0', '[\U0001d7d8]*0', '[0-\U0001d7d8]', '\U0001d7d8', '(?s).', '(?m)^0$', '(?s-i:.)0', '(?i-s:A)0', '1 0', '0{,}', '{,}', '0{}', '0{a}', '0{1,', '(?:^)*0', '(?:0', '((((0))))\\4',
]
PIECES = ['0', '1', 'a', 'f', 'A', '9', '.', '[', ']', '[^', '-', '^', '$', '(', ')', '(?:', '(?P<n>', '(?P=n)', '\\1', '\\2', '*', '+', '?', '{1}', '{,2}', '{2,}', '{1,2}', '{', '}', '|', '\\d', '\\D', '\\w', '\\s', '\\b', '\\B',
          '\\A', '\\Z', '(?=', '(?!', '(?<=', '(?<!', '(?i)', '(?x)', '(?i:', '(?-i:', '(?>', '\\x30', '\\060', '\\.', '\\-', ' ', '#', '(?(1)', '(?#c)', '[01]', '[0-9]', '[a-f]', '[^0]', '(0|1)', '(?:0|a)', ',', '&', '_']
# What is understood here in another way: see docs/nova.md.
ELSEWHERE = ('\\N{',)


def answer(expression):
    try:
        compiled = re.compile(expression)
    except (re.error, OverflowError, ValueError):
        return None
    return f'{sum(1 << bus for bus in range(256) if compiled.match(f"{bus:02x}")):x}'


def main():
    warnings.simplefilter('ignore')
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(seed)
    expressions = list(dict.fromkeys(e for e in WRITTEN if not any(n in e for n in ELSEWHERE)))
    known, good = set(expressions), 0
    while len(expressions) < count:
        expression = ''.join(chance.choice(PIECES) for _ in range(chance.randint(1, 9)))
        if expression in known:
            continue
        is_good = answer(expression) is not None
        # As many good as bad ones.
        if not is_good and good * 2 < len(expressions):
            continue
        good += is_good
        known.add(expression)
        expressions.append(expression)
    with gzip.GzipFile('expressions.jsonl.gz', 'wb', mtime=0) as out:
        for expression in expressions:
            out.write((json.dumps({'expression': expression, 'matches': answer(expression)}) + '\n').encode())


main()

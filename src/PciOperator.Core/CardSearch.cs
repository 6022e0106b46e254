using System.Numerics;
using System.Runtime.InteropServices;

namespace PciOperator.Core;

/// <summary>
/// Chooses for each card whether it gives its PF or its VFs, so that all requests can be met. A card of either mode adds
/// a known vector to the supply of every set of columns (<see cref="Hall"/>), so the question is: pick a vector for each
/// card so that the sum reaches the demand in every element.
/// </summary>
/// <remarks>
/// Cards with the same two vectors are interchangeable and form a class; for a class only the number x of cards in PF mode
/// counts. Two searches take turns, each with more work than before (the relaxation, which gets further with it, three times as much); both are exact and end, so whichever is done first is right.
/// The one here is depth first over the classes, each x within the range that every set still allows; it drops a branch when the
/// classes not yet decided can't lift some set to its demand even at the best of both modes, and remembers what failed. It
/// is quick on small and on loose questions. <see cref="CardBranching"/> branches on the linear relaxation, which is quick on
/// large and tight ones.
/// <para>
/// Worst case: a class of n cards has n + 1 choices, so at most (n1 + 1) · (n2 + 1) · … leaves, each of which costs one pass
/// over at most 2^columns sums. Failed partial sums are remembered, capped at what can still matter; as each sum of a set is a
/// number between 0 and its demand, the nodes at one depth are also at most the product of (demand + 1) over the sets that are
/// not met whatever is chosen. Hosts whose cards are alike have one class for each kind of card: two kinds of
/// 170 cards are at most 171 · 171 leaves.
/// </para>
/// </remarks>
internal sealed class CardSearch
{
    private const long FirstRound = 1L << 15;

    // A class tried with one number of PFs: its range, the next sums, and whether they fail.
    private const int PassesPerStep = 3;

    private readonly int sets;
    private readonly long[] need;
    private readonly List<CardClass> classes = [];
    private long[][] upper = [];
    private long work;
    private CardBranching? branching;
    private HashSet<State>? failed;
    private int[] memoRows = [];

    // By depth and row of memoRows: the most that the classes from there on can take away.
    private long[][] swing = [];
    private int[] choice = [];

    /// <param name="demand">By set.</param>
    /// <param name="fixedSupply">By set: what all other devices give.</param>
    public CardSearch(ReadOnlySpan<int> demand, ReadOnlySpan<int> fixedSupply)
    {
        sets = demand.Length;
        need = new long[sets];
        for (int set = 0; set < sets; set++)
            need[set] = demand[set] - fixedSupply[set];
    }

    private enum Outcome
    {
        Found,
        None,
        RoundOver,
    }

    /// <summary>Work of both searches so far: numbers looked at.</summary>
    public long Work => work + (branching?.Work ?? 0);

    /// <summary>Adds a card; cards of equal vectors are taken together.</summary>
    /// <param name="card">Its number.</param>
    /// <param name="pf">What it adds to each set when its PF (or another device of that group) may be taken.</param>
    /// <param name="vfs">What it adds to each set when its VFs may be taken.</param>
    public void Add(int card, ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs)
    {
        foreach (CardClass known in classes)
        {
            if (known.Pf.AsSpan().SequenceEqual(pf) && known.Vfs.AsSpan().SequenceEqual(vfs))
            {
                known.Cards.Add(card);
                return;
            }
        }
        classes.Add(new CardClass([card], pf.ToArray(), vfs.ToArray()));
    }

    /// <summary>Searches.</summary>
    /// <param name="modes">By card: 1 for PF mode, 0 for VFs, where an answer exists.</param>
    /// <param name="mostWork">Where it gives up: <see cref="WorkBounds"/>.</param>
    /// <returns>Whether it exists; null when the search gave up.</returns>
    public bool? Run(Span<sbyte> modes, long mostWork)
    {
        // The widest choices first; ties by vectors, so that the answer does not depend on the order of cards.
        classes.Sort();
        choice = new int[classes.Count];
        Prepare();
        for (long round = FirstRound; ; round *= 4)
        {
            Outcome outcome = Descend(0, Math.Min(work + round, mostWork - (branching?.Work ?? 0)));
            if (outcome == Outcome.RoundOver)
            {
                branching ??= new CardBranching(classes.ConvertAll(c => c.Pf), classes.ConvertAll(c => c.Vfs), classes.ConvertAll(c => c.Cards.Count), need);
                outcome = branching.Run(Math.Min(branching.Work + (3 * round), mostWork - work), choice) switch
                {
                    true => Outcome.Found,
                    false => Outcome.None,
                    null => Outcome.RoundOver,
                };
            }
            if (outcome == Outcome.None)
                return false;
            if (outcome == Outcome.Found)
            {
                for (int k = 0; k < classes.Count; k++)
                {
                    for (int i = 0; i < classes[k].Cards.Count; i++)
                        modes[classes[k].Cards[i]] = i < choice[k] ? (sbyte)1 : (sbyte)0;
                }
                return true;
            }
            if (Work >= mostWork)
                return null;
        }
    }

    // upper[k] is, for each set, what can still be had at most above the demand once the classes before k are decided: a set
    // is met when it is not negative.
    private void Prepare()
    {
        upper = new long[classes.Count + 1][];
        for (int k = 0; k <= classes.Count; k++)
            upper[k] = new long[sets];
        foreach (CardClass c in classes)
        {
            c.Gain = new long[sets];
            c.Base = new long[sets];
            for (int set = 0; set < sets; set++)
            {
                long best = Math.Max(c.Pf[set], c.Vfs[set]);
                c.Base[set] = c.Cards.Count * (c.Vfs[set] - best);
                c.Gain[set] = c.Pf[set] - c.Vfs[set];
                upper[0][set] += c.Cards.Count * best;
            }
            if (!c.Gain.AsSpan().ContainsAnyExceptInRange(0, long.MaxValue))
                c.OneMode = c.Cards.Count;
            else if (!c.Gain.AsSpan().ContainsAnyExceptInRange(long.MinValue, 0))
                c.OneMode = 0;
        }
        var matters = new List<int>();
        for (int set = 1; set < sets; set++)
        {
            upper[0][set] -= need[set];
            long least = upper[0][set];
            foreach (CardClass c in classes)
                least -= c.Cards.Count * Math.Abs(c.Gain[set]);
            if (least < 0)
                matters.Add(set);
        }
        memoRows = [.. matters];
        swing = new long[classes.Count + 1][];
        swing[classes.Count] = new long[memoRows.Length];
        for (int k = classes.Count - 1; k >= 0; k--)
        {
            swing[k] = new long[memoRows.Length];
            for (int i = 0; i < memoRows.Length; i++)
                swing[k][i] = swing[k + 1][i] + (classes[k].Cards.Count * Math.Abs(classes[k].Gain[memoRows[i]]));
        }
        failed ??= [];
    }

    private Outcome Descend(int k, long limit)
    {
        long[] now = upper[k];
        foreach (long row in now)
        {
            if (row < 0)
                return Outcome.None;
        }
        if (k == classes.Count)
            return Outcome.Found;
        State? state = null;
        if (k > 1 && classes.Count - k > 1)
        {
            state = Remember(k, now);
            if (failed!.Contains(state.Value))
                return Outcome.None;
        }
        CardClass c = classes[k];
        (int low, int high) = c.OneMode is { } only ? (only, only) : Range(c, now);
        for (int x = low; x <= high; x++)
        {
            work += PassesPerStep * sets;
            if (work > limit)
                return Outcome.RoundOver;
            long[] next = upper[k + 1];
            Advance(now, c.Base, c.Gain, x, next);
            choice[k] = x;
            Outcome outcome = Descend(k + 1, limit);
            if (outcome != Outcome.None)
                return outcome;
        }
        if (state is { } f && failed!.Count < 1 << 20)
            failed.Add(f);
        return Outcome.None;
    }

    // The numbers of PFs that leave every row a chance.
    private static (int Low, int High) Range(CardClass c, long[] now)
    {
        int low = 0;
        int high = c.Cards.Count;
        for (int row = 1; row < now.Length; row++)
        {
            long gain = c.Gain[row];
            long missing = -(now[row] + c.Base[row]);
            if (gain > 0)
            {
                if (missing > low * gain)
                    low = (int)((missing + gain - 1) / gain);
            }
            else if (gain < 0)
            {
                if (missing > high * gain)
                    high = missing > 0 ? -1 : (int)(missing / gain);
            }
            else if (missing > 0)
                return (1, 0);
        }
        return (low, high);
    }

    private static void Advance(long[] now, long[] basis, long[] gain, int x, long[] next)
    {
        int width = Vector<long>.Count;
        int i = 0;
        var times = new Vector<long>(x);
        for (; i <= now.Length - width; i += width)
            (new Vector<long>(now, i) + new Vector<long>(basis, i) + (new Vector<long>(gain, i) * times)).CopyTo(next, i);
        for (; i < now.Length; i++)
            next[i] = now[i] + basis[i] + (gain[i] * x);
    }

    // A failed state is known by the depth and, for each row that matters, what is left above the demand, up to the most
    // that later choices can take away: more than that never fails.
    private State Remember(int k, long[] now)
    {
        var left = new short[memoRows.Length + 1];
        left[0] = (short)k;
        for (int i = 0; i < memoRows.Length; i++)
        {
            left[i + 1] = (short)Math.Min(Math.Min(now[memoRows[i]], swing[k][i]), short.MaxValue);
        }
        return new State(left);
    }

    private sealed class CardClass(List<int> cards, int[] pf, int[] vfs) : IComparable<CardClass>
    {
        public List<int> Cards { get; } = cards;

        public int[] Pf { get; } = pf;

        public int[] Vfs { get; } = vfs;

        /// <summary>By row: what one more card in PF mode adds.</summary>
        public long[] Gain { get; set; } = [];

        /// <summary>By row: what deciding the class for no PF at all takes from the best of both modes.</summary>
        public long[] Base { get; set; } = [];

        /// <summary>The number of PFs that is best in every row, where there is one.</summary>
        public int? OneMode { get; set; }

        public int CompareTo(CardClass? other)
        {
            int byCount = other!.Cards.Count.CompareTo(Cards.Count);
            if (byCount != 0)
                return byCount;
            int byPf = Pf.AsSpan().SequenceCompareTo(other.Pf);
            return byPf != 0 ? byPf : Vfs.AsSpan().SequenceCompareTo(other.Vfs);
        }
    }

    private readonly struct State(short[] left) : IEquatable<State>
    {
        private readonly short[] left = left;

        public bool Equals(State other) => left.AsSpan().SequenceEqual(other.left);

        public override bool Equals(object? obj) => obj is State other && Equals(other);

        public override int GetHashCode()
        {
            var hash = new HashCode();
            hash.AddBytes(MemoryMarshal.AsBytes(left.AsSpan()));
            return hash.ToHashCode();
        }
    }
}

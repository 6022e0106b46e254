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
/// counts. The search is depth first over the classes, each x within the range that every set still allows, and drops a
/// branch when the classes not yet decided can't lift some set to its demand even at the best of both modes. Added to
/// the sets are weighted sums of them (Lagrangian cuts): any non-negative weighting of the inequalities is an inequality that
/// every answer meets, so a branch that fails one has no answer. Both drop only branches without an answer; the search
/// ends, so the result is exact.
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
    /// <summary>Steps (a class tried with one number of PFs) after which the search gives up.</summary>
    public const long MostSteps = 1L << 28;

    private const int FirstRound = 4096;

    private readonly int sets;
    private readonly long[] need;
    private readonly List<CardClass> classes = [];
    private long[][] upper = [];
    private long steps;
    private long round;
    private HashSet<State>? failed;
    private int[] memoRows = [];
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

    /// <summary>Steps taken so far, over all of the process' searches of this object.</summary>
    public long Steps => steps;

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
    /// <returns>Whether it exists; null when the search gave up after <see cref="MostSteps"/>.</returns>
    public bool? Run(Span<sbyte> modes)
    {
        // The widest choices first; ties by vectors, so that the answer does not depend on the order of cards.
        classes.Sort();
        choice = new int[classes.Count];
        List<long[]> cuts = [];
        for (round = FirstRound; ; round *= 4)
        {
            Prepare(cuts);
            long limit = Math.Min(steps + round, MostSteps);
            Outcome outcome = Descend(0, limit);
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
            if (steps >= MostSteps)
                return null;
            if (FindCut() is { } cut)
            {
                cuts.Add(cut);
                if (Refutes(cut))
                    return false;
            }
        }
    }

    // Rows: every set, then the cuts. upper[k] is what can still be had at most once classes before k are decided; it is
    // used as working memory of depth k.
    private void Prepare(List<long[]> cuts)
    {
        int rows = sets + cuts.Count;
        upper = new long[classes.Count + 1][];
        for (int k = 0; k <= classes.Count; k++)
            upper[k] = new long[rows];
        foreach (CardClass c in classes)
        {
            c.Gain = new long[rows];
            c.Base = new long[rows];
            for (int row = 0; row < rows; row++)
            {
                long pf = row < sets ? c.Pf[row] : Weigh(cuts[row - sets], c.Pf);
                long vfs = row < sets ? c.Vfs[row] : Weigh(cuts[row - sets], c.Vfs);
                c.Base[row] = c.Cards.Count * (vfs - Math.Max(pf, vfs));
                c.Gain[row] = pf - vfs;
                upper[0][row] += c.Cards.Count * Math.Max(pf, vfs);
            }
        }
        foreach (CardClass c in classes)
        {
            if (!c.Gain.AsSpan(0, sets).ContainsAnyExceptInRange(0, long.MaxValue))
                c.OneMode = c.Cards.Count;
            else if (!c.Gain.AsSpan(0, sets).ContainsAnyExceptInRange(long.MinValue, 0))
                c.OneMode = 0;
        }
        for (int row = 0; row < rows; row++)
            upper[0][row] -= row < sets ? need[row] : Weigh(cuts[row - sets], need);
        // From here on a row is met when it is not negative.
        var matters = new List<int>();
        for (int row = 1; row < sets; row++)
        {
            long least = upper[0][row];
            foreach (CardClass c in classes)
                least -= c.Cards.Count * Math.Abs(c.Gain[row]);
            if (least < 0)
                matters.Add(row);
        }
        memoRows = [.. matters];
        failed ??= [];
    }

    private static long Weigh(long[] weights, ReadOnlySpan<int> vector)
    {
        long sum = 0;
        for (int i = 0; i < vector.Length; i++)
            sum += weights[i] * vector[i];
        return sum;
    }

    private static long Weigh(long[] weights, long[] vector)
    {
        long sum = 0;
        for (int i = 0; i < vector.Length; i++)
            sum += weights[i] * vector[i];
        return sum;
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
            if (++steps > limit)
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
            int row = memoRows[i];
            long most = 0;
            for (int later = k; later < classes.Count; later++)
                most += classes[later].Cards.Count * Math.Abs(classes[later].Gain[row]);
            left[i + 1] = (short)Math.Min(Math.Min(now[row], most), short.MaxValue);
        }
        return new State(left);
    }

    // Weights for the sets under which all cards at their best fall shortest: multiplicative updates of a two-person
    // game in which the cards answer with the better mode. Rounded to integers; whatever they are, the cut is valid.
    private long[]? FindCut()
    {
        var weight = new double[sets];
        var average = new double[sets];
        Array.Fill(weight, 1.0, 1, sets - 1);
        var shortfall = new double[sets];
        const int Iterations = 400;
        for (int t = 0; t < Iterations; t++)
        {
            double sum = 0;
            for (int set = 1; set < sets; set++)
                sum += weight[set];
            for (int set = 1; set < sets; set++)
            {
                weight[set] /= sum;
                average[set] += weight[set];
                shortfall[set] = need[set];
            }
            foreach (CardClass c in classes)
            {
                double gain = 0;
                for (int set = 1; set < sets; set++)
                    gain += weight[set] * (c.Pf[set] - c.Vfs[set]);
                int[] best = gain > 0 ? c.Pf : c.Vfs;
                for (int set = 1; set < sets; set++)
                    shortfall[set] -= c.Cards.Count * (double)best[set];
            }
            double scale = 1;
            for (int set = 1; set < sets; set++)
                scale = Math.Max(scale, Math.Abs(shortfall[set]));
            double rate = 2 / Math.Sqrt(t + 1);
            for (int set = 1; set < sets; set++)
                weight[set] *= Math.Exp(rate * shortfall[set] / scale);
        }
        double largest = 0;
        for (int set = 1; set < sets; set++)
            largest = Math.Max(largest, average[set]);
        var cut = new long[sets];
        for (int set = 1; set < sets; set++)
            cut[set] = (long)Math.Round(average[set] / largest * 64);
        return cut;
    }

    private bool Refutes(long[] cut)
    {
        long best = -Weigh(cut, need);
        foreach (CardClass c in classes)
            best += c.Cards.Count * Math.Max(Weigh(cut, c.Pf), Weigh(cut, c.Vfs));
        return best < 0;
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

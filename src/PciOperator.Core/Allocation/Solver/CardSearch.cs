using System.Numerics;
using System.Runtime.CompilerServices;

namespace PciOperator.Core;

/// <summary>
/// Chooses for each card whether it gives its PF or its VFs, so that all requests can be met. A card of either mode adds
/// a known vector to the supply of every set of columns (<see cref="Hall"/>), so the question is: pick a vector for each
/// card so that the sum reaches the demand in every element.
/// </summary>
/// <remarks>
/// Cards with the same two vectors are interchangeable and form a class; for a class only the number x of cards in PF mode counts. Two
/// searches take turns, each with more work than before (the relaxation, which gets further with it, three times as much); both are exact
/// and end, so whichever is done first is right. The one here is depth first over the classes, each x within the range that every set still
/// allows; it drops a branch when the classes not yet decided can't lift some set to its demand even at the best of both modes, and
/// remembers what failed. It is quick on small and on loose questions. <see cref="CardBranching"/> branches on the linear relaxation, which
/// is quick on large and tight ones.
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

    // A class of more cards has its range worked out first.
    private const int FewCards = 4;

    private readonly StateSet _failed = new();
    private readonly CardBranching _branching = new();
    private int[] _sums = [];
    private short[] _states = [];
    private int[] _choice = [];
    private long _work;
    private bool _begun;

    private enum Outcome
    {
        Found,
        None,
        RoundOver,
    }

    /// <summary>What is searched for.</summary>
    public CardQuestion Question { get; } = new();

    /// <summary>Work of both searches so far: numbers looked at.</summary>
    public long Work => _work + Question.Work + (_begun ? _branching.Work : 0);

    /// <summary>Searches.</summary>
    /// <param name="modes">By card: 1 for PF mode, 0 for VFs, where an answer exists.</param>
    /// <param name="mostWork">Where it gives up: <see cref="WorkBounds"/>.</param>
    /// <returns>Whether it exists; null when the search gave up.</returns>
    public bool? Run(Span<sbyte> modes, long mostWork)
    {
        Begin();
        for (long round = FirstRound; ; round *= 4)
        {
            Outcome outcome = Descend(0, Math.Min(_work + round, mostWork - (Work - _work)));
            if (outcome == Outcome.RoundOver)
            {
                if (!_begun)
                    _branching.Begin(Question);
                _begun = true;
                outcome = _branching.Run(
                    Math.Min(_branching.Work + (3 * round), mostWork - (Work - _branching.Work)),
                    _choice.AsSpan(0, Question.Classes)
                ) switch
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
                Question.Answer(_choice, modes);
                return true;
            }

            if (Work >= mostWork)
                return null;
        }
    }

    private void Begin()
    {
        Question.Prepare();
        (_work, _begun) = (0, false);
        (int classes, int rows) = (Question.Classes, Question.Rows);
        Need(ref _choice, classes);
        Need(ref _states, (classes + 1) * (rows + 1));
        Need(ref _sums, (classes + 1) * rows);
        Question.Best.CopyTo(_sums);
        _failed.Clear(rows + 1);
    }

    // sums[k] is, for each condition, what can still be had at most above the demand once the classes before k are decided: one is met when
    // it is not negative.
    private Outcome Descend(int k, long limit)
    {
        int rows = Question.Rows;
        ReadOnlySpan<int> now = _sums.AsSpan(k * rows, rows);
        if (k == 0 && now.ContainsAnyInRange(int.MinValue, -1))
            return Outcome.None;
        if (k == Question.Classes)
            return Outcome.Found;
        bool remembered = k > 1 && Question.Classes - k > 1;
        Span<short> state = _states.AsSpan(k * (rows + 1), rows + 1);
        if (remembered)
        {
            _work += rows;
            Remember(k, now, state);
            if (_failed.Contains(state))
                return Outcome.None;
        }

        (int low, int high) = Range(k, now);
        for (int x = low; x <= high; x++)
        {
            if (_work > limit)
                return Outcome.RoundOver;
            if (!Advance(k, now, x))
                continue;
            _choice[k] = x;
            Outcome outcome = Descend(k + 1, limit);
            if (outcome != Outcome.None)
                return outcome;
        }

        if (remembered)
            _failed.Add(state);
        return Outcome.None;
    }

    // The numbers of PFs that leave every condition a chance; for a few cards all of them, which are as quickly tried. Where one number is
    // best for every condition, it alone.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private (int Low, int High) Range(int k, ReadOnlySpan<int> now)
    {
        int low = 0;
        int high = Question.Sizes[k];
        ReadOnlySpan<int> gains = Question.GainOf(k);
        _work += now.Length;
        if (!gains.ContainsAnyInRange(int.MinValue, -1))
            return (high, high);
        if (!gains.ContainsAnyInRange(1, int.MaxValue))
            return (0, 0);
        if (high <= FewCards)
            return (0, high);
        ReadOnlySpan<int> bases = Question.BaseOf(k);
        _work += now.Length;
        for (int row = 0; row < now.Length; row++)
        {
            int gain = gains[row];
            int missing = -(now[row] + bases[row]);
            if (gain > 0)
            {
                if (missing > low * gain)
                    low = (missing + gain - 1) / gain;
            }
            else if (gain < 0)
            {
                if (missing > high * gain)
                    high = missing > 0 ? -1 : missing / gain;
            }
            else if (missing > 0)
            {
                return (1, 0);
            }
        }

        return (low, high);
    }

    // The sums with so many PFs of a class; false as soon as a condition is out of reach.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private bool Advance(int k, ReadOnlySpan<int> now, int x)
    {
        ReadOnlySpan<int> bases = Question.BaseOf(k);
        ReadOnlySpan<int> gains = Question.GainOf(k);
        Span<int> next = _sums.AsSpan((k + 1) * now.Length, now.Length);
        int width = Vector<int>.Count;
        var times = new Vector<int>(x);
        int i = 0;
        for (; i <= now.Length - width; i += width)
        {
            Vector<int> sum = new Vector<int>(now[i..]) + new Vector<int>(bases[i..]) + (new Vector<int>(gains[i..]) * times);
            if (Vector.LessThanAny(sum, Vector<int>.Zero))
            {
                _work += i + width;
                return false;
            }

            sum.CopyTo(next[i..]);
        }

        _work += now.Length;
        for (; i < now.Length; i++)
        {
            next[i] = now[i] + bases[i] + (gains[i] * x);
            if (next[i] < 0)
                return false;
        }

        return true;
    }

    // A failed state is known by the depth and, for each condition, what is left above the demand, up to the most that later choices can
    // take away: more than that never fails.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Remember(int k, ReadOnlySpan<int> now, Span<short> state)
    {
        ReadOnlySpan<int> swing = Question.SwingFrom(k);
        state[^1] = (short)k;
        int width = Vector<int>.Count;
        var most = new Vector<int>(short.MaxValue);
        int i = 0;
        for (; i <= now.Length - (2 * width); i += 2 * width)
        {
            var lower = Vector.Min(Vector.Min(new Vector<int>(now[i..]), new Vector<int>(swing[i..])), most);
            var upper = Vector.Min(Vector.Min(new Vector<int>(now[(i + width)..]), new Vector<int>(swing[(i + width)..])), most);
            Vector.Narrow(lower, upper).CopyTo(state[i..]);
        }

        for (; i < now.Length; i++)
            state[i] = (short)Math.Min(Math.Min(now[i], swing[i]), short.MaxValue);
    }

    private static void Need<T>(ref T[] array, int length)
    {
        if (array.Length < length)
            array = new T[Math.Max(length, array.Length * 2)];
    }
}

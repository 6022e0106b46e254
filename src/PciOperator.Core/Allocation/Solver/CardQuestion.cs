using System.Numerics;

namespace PciOperator.Core;

/// <summary>
/// A question for <see cref="CardSearch"/>, made small: cards with the same two vectors are one class, and only conditions that some choice
/// of modes fails are kept. Its memory is used again for the next question.
/// </summary>
internal sealed class CardQuestion
{
    private readonly Dictionary<int, int> _firstOfHash = [];
    private int _width;
    private int _cards;
    private int[] _need = [];
    private int[] _vectors = [];
    private int[] _nextOfHash = [];
    private int[] _sizesGiven = [];
    private int[] _numbers = [];
    private int[] _classOf = [];
    private int[] _order = [];
    private int[] _rows = [];
    private int[] _sizes = [];
    private int[] _gains = [];
    private int[] _bases = [];
    private int[] _missing = [];
    private int[] _best = [];
    private int[] _swings = [];
    private bool _prepared;

    /// <summary>Classes of cards.</summary>
    public int Classes { get; private set; }

    /// <summary>Conditions that matter: first those of sets of columns, by set, then those of linked VFs.</summary>
    public int Rows { get; private set; }

    /// <summary>How many of the conditions are of sets of columns.</summary>
    public int SetRows { get; private set; }

    /// <summary>Work so far: numbers looked at.</summary>
    public long Work { get; private set; }

    /// <summary>By class: how many cards.</summary>
    public ReadOnlySpan<int> Sizes => _sizes.AsSpan(0, Classes);

    /// <summary>By condition: what is missing with every card in VF mode.</summary>
    public ReadOnlySpan<int> Missing => _missing.AsSpan(0, Rows);

    /// <summary>By condition: what there is above the demand when each class is at the better of its modes.</summary>
    public ReadOnlySpan<int> Best => _best.AsSpan(0, Rows);

    private int Sets { get; set; }

    /// <summary>Begins a question.</summary>
    /// <param name="demand">By set of columns, then by condition of a linked VF.</param>
    /// <param name="given">What all other devices give.</param>
    /// <param name="sets">How many of these are sets of columns.</param>
    public void Begin(ReadOnlySpan<int> demand, ReadOnlySpan<int> given, int sets)
    {
        (_width, Sets, _cards, Classes, Rows, SetRows, Work, _prepared) = (demand.Length, sets, 0, 0, 0, 0, 0, false);
        _firstOfHash.Clear();
        Span<int> to = Need(ref _need, _width);
        for (int i = 0; i < _width; i++)
            to[i] = demand[i] - given[i];
    }

    /// <summary>Adds a card; cards of equal vectors are taken together.</summary>
    /// <param name="card">Its number.</param>
    /// <param name="pf">What it adds to each condition when its PF (or another device of that group) may be taken.</param>
    /// <param name="vfs">What it adds when its VFs may be taken.</param>
    public void Add(int card, ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs)
    {
        Work += 4L * _width;
        Grow(ref _numbers, _cards + 1);
        Grow(ref _classOf, _cards + 1);
        (_numbers[_cards], _classOf[_cards]) = (card, ClassOf(pf, vfs));
        _cards++;
    }

    /// <summary>Sorts the classes, the widest choices first, and keeps the conditions that matter.</summary>
    public void Prepare()
    {
        if (_prepared)
            return;
        _prepared = true;
        Work += (6L * _width * Classes) + _width;
        SortClasses();
        KeepWhatMatters();
        Span<int> left = Need(ref _best, Rows);
        Span<int> none = Need(ref _missing, Rows);
        for (int i = 0; i < Rows; i++)
            none[i] = _need[_rows[i]];
        left.Clear();
        Need(ref _gains, Classes * Rows);
        Need(ref _bases, Classes * Rows);
        for (int k = 0; k < Classes; k++)
        {
            (ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs) = VectorsOf(_order[k]);
            for (int i = 0, at = k * Rows; i < Rows; i++, at++)
            {
                (int whole, int parts) = (pf[_rows[i]], vfs[_rows[i]]);
                int better = Math.Max(whole, parts);
                _gains[at] = whole - parts;
                _bases[at] = _sizes[k] * (parts - better);
                left[i] += _sizes[k] * better;
                none[i] -= _sizes[k] * parts;
            }
        }

        for (int i = 0; i < Rows; i++)
            left[i] -= _need[_rows[i]];
        Swing();
    }

    /// <summary>By condition: what one more card of a class in PF mode adds.</summary>
    public ReadOnlySpan<int> GainOf(int k) => _gains.AsSpan(k * Rows, Rows);

    /// <summary>By condition: what deciding a class for no PF at all takes from the best of both modes.</summary>
    public ReadOnlySpan<int> BaseOf(int k) => _bases.AsSpan(k * Rows, Rows);

    /// <summary>By condition: the most that the classes from this one on can take away.</summary>
    public ReadOnlySpan<int> SwingFrom(int k) => _swings.AsSpan(k * Rows, Rows);

    /// <summary>Whether a condition is that of one column alone, or that of all.</summary>
    public bool IsPlain(int row) => _rows[row] < Sets && (BitOperations.IsPow2(_rows[row]) || _rows[row] == Sets - 1);

    /// <summary>
    /// How much follows from a class' mode. A linked VF's use follows from the modes of its two cards, so it is never branched on while a
    /// card is open; and the card with the most links decides most at once.
    /// </summary>
    public int WeightOf(int k)
    {
        int links = 0;
        ReadOnlySpan<int> gain = GainOf(k);
        for (int i = SetRows; i < Rows; i++)
        {
            links += gain[i] != 0 ? 1 : 0;
            if (gain[i] < 0 && ((_rows[i] - Sets) & 1) == 0)
                return 1;
        }

        return (1 + links) << 20;
    }

    /// <summary>By card: 1 for PF mode, 0 for VFs.</summary>
    /// <param name="choice">By class, the number of cards in PF mode.</param>
    /// <param name="modes">By number of card.</param>
    public void Answer(ReadOnlySpan<int> choice, Span<sbyte> modes)
    {
        Span<int> left = stackalloc int[256];
        left = Classes <= left.Length ? left[..Classes] : new int[Classes];
        for (int k = 0; k < Classes; k++)
            left[_order[k]] = choice[k];
        for (int i = 0; i < _cards; i++)
            modes[_numbers[i]] = left[_classOf[i]]-- > 0 ? (sbyte)1 : (sbyte)0;
    }

    private int ClassOf(ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs)
    {
        var code = new HashCode();
        code.AddBytes(System.Runtime.InteropServices.MemoryMarshal.AsBytes(pf));
        code.AddBytes(System.Runtime.InteropServices.MemoryMarshal.AsBytes(vfs));
        int hash = code.ToHashCode();
        int first = _firstOfHash.GetValueOrDefault(hash, -1);
        for (int known = first; known >= 0; known = _nextOfHash[known])
        {
            (ReadOnlySpan<int> itsPf, ReadOnlySpan<int> itsVfs) = VectorsOf(known);
            if (!itsPf.SequenceEqual(pf) || !itsVfs.SequenceEqual(vfs))
                continue;
            _sizesGiven[known]++;
            return known;
        }

        Grow(ref _nextOfHash, Classes + 1);
        Grow(ref _sizesGiven, Classes + 1);
        Grow(ref _vectors, (Classes + 1) * 2 * _width);
        pf.CopyTo(_vectors.AsSpan(Classes * 2 * _width));
        vfs.CopyTo(_vectors.AsSpan(((Classes * 2) + 1) * _width));
        (_nextOfHash[Classes], _sizesGiven[Classes]) = (first, 1);
        _firstOfHash[hash] = Classes;
        return Classes++;
    }

    private Pair VectorsOf(int given) =>
        new(_vectors.AsSpan(given * 2 * _width, _width), _vectors.AsSpan(((given * 2) + 1) * _width, _width));

    // Ties by vectors, so that the answer does not depend on the order of cards.
    private void SortClasses()
    {
        Span<int> sorted = Need(ref _order, Classes);
        for (int k = 0; k < Classes; k++)
            sorted[k] = k;
        sorted.Sort(
            (a, b) =>
            {
                int byCount = _sizesGiven[b].CompareTo(_sizesGiven[a]);
                if (byCount != 0)
                    return byCount;
                (ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs) = VectorsOf(a);
                (ReadOnlySpan<int> otherPf, ReadOnlySpan<int> otherVfs) = VectorsOf(b);
                int byPf = pf.SequenceCompareTo(otherPf);
                return byPf != 0 ? byPf : vfs.SequenceCompareTo(otherVfs);
            }
        );
        Span<int> counts = Need(ref _sizes, Classes);
        for (int k = 0; k < Classes; k++)
            counts[k] = _sizesGiven[sorted[k]];
    }

    // A condition matters when some choice fails it.
    private void KeepWhatMatters()
    {
        Span<int> least = Need(ref _missing, _width);
        _need.AsSpan(0, _width).CopyTo(least);
        for (int k = 0; k < Classes; k++)
        {
            (ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs) = VectorsOf(_order[k]);
            for (int i = 0; i < _width; i++)
                least[i] -= _sizes[k] * Math.Min(pf[i], vfs[i]);
        }

        Need(ref _rows, _width);
        for (int i = 1; i < _width; i++)
        {
            if (least[i] <= 0)
                continue;
            SetRows += i < Sets ? 1 : 0;
            _rows[Rows++] = i;
        }
    }

    private void Swing()
    {
        Span<int> all = Need(ref _swings, (Classes + 1) * Rows);
        all.Slice(Classes * Rows, Rows).Clear();
        for (int k = Classes - 1; k >= 0; k--)
        {
            for (int i = 0, at = k * Rows; i < Rows; i++, at++)
                all[at] = all[at + Rows] + (_sizes[k] * Math.Abs(_gains[at]));
        }
    }

    private static Span<int> Need(ref int[] array, int length)
    {
        if (array.Length < length)
            array = new int[Math.Max(length, array.Length * 2)];
        return array.AsSpan(0, length);
    }

    private static void Grow(ref int[] array, int length)
    {
        if (array.Length < length)
            Array.Resize(ref array, Math.Max(length, Math.Max(64, array.Length * 2)));
    }

    private readonly ref struct Pair(ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs)
    {
        private readonly ReadOnlySpan<int> _pf = pf;
        private readonly ReadOnlySpan<int> _vfs = vfs;

        public void Deconstruct(out ReadOnlySpan<int> whole, out ReadOnlySpan<int> parts)
        {
            whole = _pf;
            parts = _vfs;
        }
    }
}

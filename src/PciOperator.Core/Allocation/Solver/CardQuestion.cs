using System.Numerics;

namespace PciOperator.Core;

/// <summary>
/// A question for <see cref="CardSearch"/>, made small: cards with the same two vectors are one class, and only conditions that some choice of modes fails are
/// kept. Its memory is used again for the next question.
/// </summary>
internal sealed class CardQuestion
{
    private readonly Dictionary<int, int> firstOfHash = [];
    private int width;
    private int cards;
    private int[] need = [];
    private int[] vectors = [];
    private int[] nextOfHash = [];
    private int[] sizesGiven = [];
    private int[] numbers = [];
    private int[] classOf = [];
    private int[] order = [];
    private int[] rows = [];
    private int[] sizes = [];
    private int[] gains = [];
    private int[] bases = [];
    private int[] missing = [];
    private int[] best = [];
    private int[] swings = [];
    private bool prepared;

    /// <summary>Classes of cards.</summary>
    public int Classes { get; private set; }

    /// <summary>Conditions that matter: first those of sets of columns, by set, then those of linked VFs.</summary>
    public int Rows { get; private set; }

    /// <summary>How many of the conditions are of sets of columns.</summary>
    public int SetRows { get; private set; }

    /// <summary>Work so far: numbers looked at.</summary>
    public long Work { get; private set; }

    /// <summary>By class: how many cards.</summary>
    public ReadOnlySpan<int> Sizes => sizes.AsSpan(0, Classes);

    /// <summary>By condition: what is missing with every card in VF mode.</summary>
    public ReadOnlySpan<int> Missing => missing.AsSpan(0, Rows);

    /// <summary>By condition: what there is above the demand when each class is at the better of its modes.</summary>
    public ReadOnlySpan<int> Best => best.AsSpan(0, Rows);

    private int Sets { get; set; }

    /// <summary>Begins a question.</summary>
    /// <param name="demand">By set of columns, then by condition of a linked VF.</param>
    /// <param name="given">What all other devices give.</param>
    /// <param name="sets">How many of these are sets of columns.</param>
    public void Begin(ReadOnlySpan<int> demand, ReadOnlySpan<int> given, int sets)
    {
        (width, Sets, cards, Classes, Rows, SetRows, Work, prepared) = (demand.Length, sets, 0, 0, 0, 0, 0, false);
        firstOfHash.Clear();
        Span<int> to = Need(ref need, width);
        for (int i = 0; i < width; i++)
            to[i] = demand[i] - given[i];
    }

    /// <summary>Adds a card; cards of equal vectors are taken together.</summary>
    /// <param name="card">Its number.</param>
    /// <param name="pf">What it adds to each condition when its PF (or another device of that group) may be taken.</param>
    /// <param name="vfs">What it adds when its VFs may be taken.</param>
    public void Add(int card, ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs)
    {
        Work += 4L * width;
        Grow(ref numbers, cards + 1);
        Grow(ref classOf, cards + 1);
        (numbers[cards], classOf[cards]) = (card, ClassOf(pf, vfs));
        cards++;
    }

    /// <summary>Sorts the classes, the widest choices first, and keeps the conditions that matter.</summary>
    public void Prepare()
    {
        if (prepared)
            return;
        prepared = true;
        Work += (6L * width * Classes) + width;
        SortClasses();
        KeepWhatMatters();
        Span<int> left = Need(ref best, Rows);
        Span<int> none = Need(ref missing, Rows);
        for (int i = 0; i < Rows; i++)
            none[i] = need[rows[i]];
        left.Clear();
        Need(ref gains, Classes * Rows);
        Need(ref bases, Classes * Rows);
        for (int k = 0; k < Classes; k++)
        {
            (ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs) = VectorsOf(order[k]);
            for (int i = 0, at = k * Rows; i < Rows; i++, at++)
            {
                (int whole, int parts) = (pf[rows[i]], vfs[rows[i]]);
                int better = Math.Max(whole, parts);
                gains[at] = whole - parts;
                bases[at] = sizes[k] * (parts - better);
                left[i] += sizes[k] * better;
                none[i] -= sizes[k] * parts;
            }
        }
        for (int i = 0; i < Rows; i++)
            left[i] -= need[rows[i]];
        Swing();
    }

    /// <summary>By condition: what one more card of a class in PF mode adds.</summary>
    public ReadOnlySpan<int> GainOf(int k) => gains.AsSpan(k * Rows, Rows);

    /// <summary>By condition: what deciding a class for no PF at all takes from the best of both modes.</summary>
    public ReadOnlySpan<int> BaseOf(int k) => bases.AsSpan(k * Rows, Rows);

    /// <summary>By condition: the most that the classes from this one on can take away.</summary>
    public ReadOnlySpan<int> SwingFrom(int k) => swings.AsSpan(k * Rows, Rows);

    /// <summary>Whether a condition is that of one column alone, or that of all.</summary>
    public bool IsPlain(int row) => rows[row] < Sets && (BitOperations.IsPow2(rows[row]) || rows[row] == Sets - 1);

    /// <summary>
    /// How much follows from a class' mode. A linked VF's use follows from the modes of its two cards, so it is never branched on while a card is open; and the card
    /// with the most links decides most at once.
    /// </summary>
    public int WeightOf(int k)
    {
        int links = 0;
        ReadOnlySpan<int> gain = GainOf(k);
        for (int i = SetRows; i < Rows; i++)
        {
            links += gain[i] != 0 ? 1 : 0;
            if (gain[i] < 0 && ((rows[i] - Sets) & 1) == 0)
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
            left[order[k]] = choice[k];
        for (int i = 0; i < cards; i++)
            modes[numbers[i]] = left[classOf[i]]-- > 0 ? (sbyte)1 : (sbyte)0;
    }

    private int ClassOf(ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs)
    {
        var code = new HashCode();
        code.AddBytes(System.Runtime.InteropServices.MemoryMarshal.AsBytes(pf));
        code.AddBytes(System.Runtime.InteropServices.MemoryMarshal.AsBytes(vfs));
        int hash = code.ToHashCode();
        int first = firstOfHash.GetValueOrDefault(hash, -1);
        for (int known = first; known >= 0; known = nextOfHash[known])
        {
            (ReadOnlySpan<int> itsPf, ReadOnlySpan<int> itsVfs) = VectorsOf(known);
            if (!itsPf.SequenceEqual(pf) || !itsVfs.SequenceEqual(vfs))
                continue;
            sizesGiven[known]++;
            return known;
        }
        Grow(ref nextOfHash, Classes + 1);
        Grow(ref sizesGiven, Classes + 1);
        Grow(ref vectors, (Classes + 1) * 2 * width);
        pf.CopyTo(vectors.AsSpan(Classes * 2 * width));
        vfs.CopyTo(vectors.AsSpan(((Classes * 2) + 1) * width));
        (nextOfHash[Classes], sizesGiven[Classes]) = (first, 1);
        firstOfHash[hash] = Classes;
        return Classes++;
    }

    private Pair VectorsOf(int given) => new(vectors.AsSpan(given * 2 * width, width), vectors.AsSpan(((given * 2) + 1) * width, width));

    // Ties by vectors, so that the answer does not depend on the order of cards.
    private void SortClasses()
    {
        Span<int> sorted = Need(ref order, Classes);
        for (int k = 0; k < Classes; k++)
            sorted[k] = k;
        sorted.Sort((a, b) =>
        {
            int byCount = sizesGiven[b].CompareTo(sizesGiven[a]);
            if (byCount != 0)
                return byCount;
            (ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs) = VectorsOf(a);
            (ReadOnlySpan<int> otherPf, ReadOnlySpan<int> otherVfs) = VectorsOf(b);
            int byPf = pf.SequenceCompareTo(otherPf);
            return byPf != 0 ? byPf : vfs.SequenceCompareTo(otherVfs);
        });
        Span<int> counts = Need(ref sizes, Classes);
        for (int k = 0; k < Classes; k++)
            counts[k] = sizesGiven[sorted[k]];
    }

    // A condition matters when some choice fails it.
    private void KeepWhatMatters()
    {
        Span<int> least = Need(ref missing, width);
        need.AsSpan(0, width).CopyTo(least);
        for (int k = 0; k < Classes; k++)
        {
            (ReadOnlySpan<int> pf, ReadOnlySpan<int> vfs) = VectorsOf(order[k]);
            for (int i = 0; i < width; i++)
                least[i] -= sizes[k] * Math.Min(pf[i], vfs[i]);
        }
        Need(ref rows, width);
        for (int i = 1; i < width; i++)
        {
            if (least[i] <= 0)
                continue;
            SetRows += i < Sets ? 1 : 0;
            rows[Rows++] = i;
        }
    }

    private void Swing()
    {
        Span<int> all = Need(ref swings, (Classes + 1) * Rows);
        all.Slice(Classes * Rows, Rows).Clear();
        for (int k = Classes - 1; k >= 0; k--)
        {
            for (int i = 0, at = k * Rows; i < Rows; i++, at++)
                all[at] = all[at + Rows] + (sizes[k] * Math.Abs(gains[at]));
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
        private readonly ReadOnlySpan<int> pf = pf;
        private readonly ReadOnlySpan<int> vfs = vfs;

        public void Deconstruct(out ReadOnlySpan<int> whole, out ReadOnlySpan<int> parts)
        {
            whole = pf;
            parts = vfs;
        }
    }
}

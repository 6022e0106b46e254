using System.Numerics;
using System.Runtime.CompilerServices;

namespace PciOperator.Core;

/// <summary>
/// The linear relaxation of <see cref="CardSearch"/>'s question within bounds on each class' number of PFs: minimise the
/// largest shortfall z of any set of columns, by the simplex method with bounded variables, over only those sets that matter
/// (others are added as they are violated).
/// </summary>
/// <remarks>
/// Floating point only guides: a shortfall is believed when its weights, as integers, prove it; an answer when its integers
/// add up. At a corner of the relaxation few numbers are fractional: supply is submodular in the set, so the sets that are
/// just met can be reduced to a chain, of at most as many sets as there are columns; so many numbers at most are fractional.
/// </remarks>
internal sealed class CardRelaxation
{
    private const double Tiny = 1e-9;

    private readonly List<int> rows = [];
    private CardQuestion question = new();
    private bool[] isRow = [];
    private double[] missing = [];
    private double[] gains = [];
    private double[] gainsOfRow = [];
    private double[] least = [];
    private double[] left = [];
    private int[] exact = [];
    private double[] table = [];
    private double[] value = [];
    private double[] reach = [];
    private double[] atUpper = [];
    private int[] basic = [];
    private int[] nonbasic = [];
    private double[] weights = [];
    private int classes;
    private int stride;

    /// <summary>Work so far: numbers looked at.</summary>
    public long Work { get; private set; }

    /// <summary>The work at which a solve ends without knowing.</summary>
    public long Limit { get; set; } = long.MaxValue;

    /// <summary>Begins with a question.</summary>
    public void Begin(CardQuestion asked)
    {
        question = asked;
        classes = asked.Classes;
        stride = classes + 1;
        rows.Clear();
        Need(ref isRow, asked.Rows).Clear();
        Span<double> none = Need(ref missing, asked.Rows);
        Need(ref left, asked.Rows);
        Need(ref exact, asked.Rows);
        Need(ref least, classes);
        Span<double> all = Need(ref gains, classes * asked.Rows);
        Work = 2L * all.Length;
        for (int i = 0; i < asked.Rows; i++)
            none[i] = asked.Missing[i];
        for (int k = 0; k < classes; k++)
        {
            ReadOnlySpan<int> gain = asked.GainOf(k);
            for (int i = 0; i < gain.Length; i++)
                all[(k * gain.Length) + i] = gain[i];
        }
        for (int i = 0; i < asked.SetRows; i++)
        {
            if (asked.IsPlain(i))
                AddRow(i);
        }
    }

    /// <summary>Solves within bounds.</summary>
    /// <param name="low">By class, the least number of PFs.</param>
    /// <param name="high">By class, the most.</param>
    /// <param name="x">By class: a corner of the relaxation.</param>
    /// <returns>False when there is provably no answer in these bounds; true when the relaxation has one, or it is not known.</returns>
    public bool Solve(ReadOnlySpan<int> low, ReadOnlySpan<int> high, Span<double> x)
    {
        while (true)
        {
            double shortfall = Simplex(low, high, x);
            if (shortfall > 1e-7)
                return !Refuted(low, high);
            if (Work > Limit || !AddViolated(x))
                return true;
        }
    }

    /// <summary>Whether these numbers of PFs meet every condition, in integers.</summary>
    public bool Answers(ReadOnlySpan<int> x)
    {
        Span<int> still = exact.AsSpan(0, question.Rows);
        question.Missing.CopyTo(still);
        Work += still.Length;
        for (int k = 0; k < classes; k++)
        {
            if (x[k] == 0)
                continue;
            Work += still.Length;
            SubtractTimes(still, x[k], question.GainOf(k));
        }
        return !still.ContainsAnyInRange(1, int.MaxValue);
    }

    // The set that misses most, and at once all violated conditions of linked VFs.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private bool AddViolated(ReadOnlySpan<double> x)
    {
        int all = question.Rows;
        Span<double> still = left.AsSpan(0, all);
        missing.AsSpan(0, all).CopyTo(still);
        Work += 2L * all;
        for (int k = 0; k < classes; k++)
        {
            if (x[k] == 0)
                continue;
            Work += all;
            AddTimes(still, -x[k], gains.AsSpan(k * all, all));
        }
        int worst = -1;
        double most = 1e-6;
        bool added = false;
        for (int i = 0; i < all; i++)
        {
            if (still[i] <= (i < question.SetRows ? most : 1e-6) || isRow[i])
                continue;
            if (i < question.SetRows)
            {
                (worst, most) = (i, still[i]);
                continue;
            }
            AddRow(i);
            added = true;
        }
        if (worst >= 0)
            AddRow(worst);
        return added || worst >= 0;
    }

    private void AddRow(int row)
    {
        isRow[row] = true;
        rows.Add(row);
        int at = (rows.Count - 1) * classes;
        if (gainsOfRow.Length < at + classes)
            Array.Resize(ref gainsOfRow, Math.Max(at + classes, gainsOfRow.Length * 2));
        Work += classes;
        for (int k = 0; k < classes; k++)
            gainsOfRow[at + k] = gains[(k * question.Rows) + row];
    }

    // Nonbasic variables are the columns: classes 0..K-1, or slack K + 1 + row; K is z. Each row gives its basic variable as a sum over them.
    private double Simplex(ReadOnlySpan<int> low, ReadOnlySpan<int> high, Span<double> x)
    {
        int m = rows.Count;
        Work += (2L * m * classes) + classes;
        for (int k = 0; k < classes; k++)
            x[k] = least[k] = low[k];
        Resize(m);
        int first = 0;
        double most = 0;
        for (int i = 0; i < m; i++)
        {
            value[i] = missing[rows[i]] - Dot(least.AsSpan(0, classes), gainsOfRow.AsSpan(i * classes, classes));
            if (value[i] > most)
                (first, most) = (i, value[i]);
        }
        if (most <= 0)
            return 0;

        int z = classes;
        int columns = classes + 1;
        for (int j = 0; j < classes; j++)
        {
            nonbasic[j] = j;
            reach[j] = high[j] - low[j];
        }
        nonbasic[classes] = z + 1 + first;
        reach[z] = double.PositiveInfinity;
        ReadOnlySpan<double> ofFirst = gainsOfRow.AsSpan(first * classes, classes);
        for (int i = 0; i < m; i++)
        {
            reach[z + 1 + i] = double.PositiveInfinity;
            bool isFirst = i == first;
            basic[i] = isFirst ? z : z + 1 + i;
            value[i] = isFirst ? most : most - value[i];
            Span<double> row = table.AsSpan(i * stride, columns);
            if (isFirst)
                row.Clear();
            else
                gainsOfRow.AsSpan(i * classes, classes).CopyTo(row);
            AddTimes(row[..classes], -1, ofFirst);
            row[classes] = 1;
        }
        int zRow = first;
        for (int step = 0; step < 20_000; step++)
        {
            Work += m + columns;
            if (Work > Limit)
                return Finish(low, x, zRow);
            int enter = Entering(table.AsSpan(zRow * stride, columns), step > 5_000);
            if (enter < 0)
                return Finish(low, x, zRow);
            double direction = atUpper[nonbasic[enter]] > 0 ? -1 : 1;
            (int leave, double by) = Leaving(enter, direction, m, zRow);
            if (double.IsPositiveInfinity(by))
                return Finish(low, x, zRow);
            for (int i = 0; i < m; i++)
                value[i] += table[(i * stride) + enter] * direction * by;
            if (leave < 0)
            {
                atUpper[nonbasic[enter]] = 1 - atUpper[nonbasic[enter]];
                continue;
            }
            bool toUpper = table[(leave * stride) + enter] * direction > 0;
            Pivot(leave, enter, m, columns, direction > 0 ? by : reach[nonbasic[enter]] - by, toUpper);
            if (leave == zRow)
            {
                Read(low, x, m);
                return 0;
            }
        }
        return Finish(low, x, zRow);
    }

    // How far the entering variable can go, and which row ends it; -1: its own bound.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private (int Row, double By) Leaving(int enter, double direction, int m, int zRow)
    {
        int leave = -1;
        double most = reach[nonbasic[enter]];
        for (int i = 0; i < m; i++)
        {
            double rate = table[(i * stride) + enter] * direction;
            double limit = rate < -Tiny ? value[i] / -rate
                : rate > Tiny && !double.IsPositiveInfinity(reach[basic[i]]) ? (reach[basic[i]] - value[i]) / rate
                : double.PositiveInfinity;
            if (limit < most || (limit == most && i == zRow))
                (most, leave) = (Math.Max(limit, 0), i);
        }
        return (leave, most);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private int Entering(ReadOnlySpan<double> objective, bool firstFound)
    {
        int best = -1;
        double most = 1e-8;
        for (int j = 0; j < objective.Length; j++)
        {
            if (reach[nonbasic[j]] <= 0)
                continue;
            double gain = atUpper[nonbasic[j]] > 0 ? objective[j] : -objective[j];
            if (gain > most)
            {
                if (firstFound)
                    return j;
                (best, most) = (j, gain);
            }
        }
        return best;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Pivot(int leave, int enter, int m, int columns, double entered, bool toUpper)
    {
        Span<double> row = table.AsSpan(leave * stride, columns);
        double by = 1 / row[enter];
        for (int j = 0; j < columns; j++)
            row[j] *= -by;
        row[enter] = by;
        for (int i = 0; i < m; i++)
        {
            double factor = i == leave ? 0 : table[(i * stride) + enter];
            if (factor == 0)
                continue;
            Span<double> other = table.AsSpan(i * stride, columns);
            other[enter] = 0;
            Work += columns;
            AddTimes(other, factor, row);
        }
        (basic[leave], nonbasic[enter]) = (nonbasic[enter], basic[leave]);
        value[leave] = entered;
        atUpper[nonbasic[enter]] = toUpper ? 1 : 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddTimes(Span<double> to, double factor, ReadOnlySpan<double> row)
    {
        var factors = new Vector<double>(factor);
        int j = 0;
        for (; j <= to.Length - Vector<double>.Count; j += Vector<double>.Count)
            (new Vector<double>(to[j..]) + (factors * new Vector<double>(row[j..]))).CopyTo(to[j..]);
        for (; j < to.Length; j++)
            to[j] += factor * row[j];
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SubtractTimes(Span<int> from, int factor, ReadOnlySpan<int> row)
    {
        var factors = new Vector<int>(factor);
        int j = 0;
        for (; j <= from.Length - Vector<int>.Count; j += Vector<int>.Count)
            (new Vector<int>(from[j..]) - (factors * new Vector<int>(row[j..]))).CopyTo(from[j..]);
        for (; j < from.Length; j++)
            from[j] -= factor * row[j];
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static double Dot(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        Vector<double> sums = Vector<double>.Zero;
        int j = 0;
        for (; j <= a.Length - Vector<double>.Count; j += Vector<double>.Count)
            sums += new Vector<double>(a[j..]) * new Vector<double>(b[j..]);
        double sum = Vector.Sum(sums);
        for (; j < a.Length; j++)
            sum += a[j] * b[j];
        return sum;
    }

    private double Finish(ReadOnlySpan<int> low, Span<double> x, int zRow)
    {
        Read(low, x, rows.Count);
        // The objective's coefficients of the slacks are the weights of the conditions.
        weights.AsSpan(0, rows.Count).Clear();
        for (int j = 0; j <= classes; j++)
        {
            int slack = nonbasic[j] - classes - 1;
            if (slack >= 0)
                weights[slack] = Math.Max(0, table[(zRow * stride) + j]);
        }
        return value[zRow];
    }

    private void Read(ReadOnlySpan<int> low, Span<double> x, int m)
    {
        for (int k = 0; k < classes; k++)
            x[k] = low[k] + (atUpper[k] > 0 ? reach[k] : 0);
        for (int i = 0; i < m; i++)
        {
            if (basic[i] < classes)
                x[basic[i]] = low[basic[i]] + value[i];
        }
    }

    // The weights as integers: with every class at its better end, the weighted sum of what is there stays below what is needed.
    private bool Refuted(ReadOnlySpan<int> low, ReadOnlySpan<int> high)
    {
        long there = 0;
        int used = 0;
        for (int i = 0; i < rows.Count; i++)
        {
            weights[i] = Math.Round(weights[i] * (1 << 28));
            there -= (long)weights[i] * question.Missing[rows[i]];
            used += weights[i] != 0 ? 1 : 0;
        }
        Work += rows.Count + ((long)used * classes);
        for (int k = 0; k < classes; k++)
        {
            ReadOnlySpan<int> gains = question.GainOf(k);
            long gain = 0;
            for (int i = 0; i < rows.Count; i++)
            {
                if (weights[i] != 0)
                    gain += (long)weights[i] * gains[rows[i]];
            }
            there += Math.Max(gain * low[k], gain * high[k]);
        }
        return there < 0;
    }

    private void Resize(int m)
    {
        // Rows are added one by one: some more at once.
        if (table.Length < m * stride)
            table = new double[(m + 16) * stride];
        Need(ref value, m);
        Need(ref basic, m);
        Need(ref weights, m);
        Need(ref reach, stride + m);
        Need(ref nonbasic, stride);
        Need(ref atUpper, stride + m).Clear();
    }

    private static Span<T> Need<T>(ref T[] array, int length)
    {
        if (array.Length < length)
            array = new T[length + (length / 2)];
        return array.AsSpan(0, length);
    }
}

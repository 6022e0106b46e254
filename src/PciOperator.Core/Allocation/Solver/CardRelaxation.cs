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

    private readonly List<int> _rows = [];
    private CardQuestion _question = new();
    private bool[] _isRow = [];
    private double[] _missing = [];
    private double[] _gains = [];
    private double[] _gainsOfRow = [];
    private double[] _least = [];
    private double[] _left = [];
    private int[] _exact = [];
    private double[] _table = [];
    private double[] _value = [];
    private double[] _reach = [];
    private double[] _atUpper = [];
    private int[] _basic = [];
    private int[] _nonbasic = [];
    private double[] _weights = [];
    private int _classes;
    private int _stride;

    /// <summary>Work so far: numbers looked at.</summary>
    public long Work { get; private set; }

    /// <summary>The work at which a solve ends without knowing.</summary>
    public long Limit { get; set; } = long.MaxValue;

    /// <summary>Begins with a question.</summary>
    public void Begin(CardQuestion asked)
    {
        _question = asked;
        _classes = asked.Classes;
        _stride = _classes + 1;
        _rows.Clear();
        Need(ref _isRow, asked.Rows).Clear();
        Span<double> none = Need(ref _missing, asked.Rows);
        Need(ref _left, asked.Rows);
        Need(ref _exact, asked.Rows);
        Need(ref _least, _classes);
        Span<double> all = Need(ref _gains, _classes * asked.Rows);
        Work = 2L * all.Length;
        for (int i = 0; i < asked.Rows; i++)
            none[i] = asked.Missing[i];
        for (int k = 0; k < _classes; k++)
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
        Span<int> still = _exact.AsSpan(0, _question.Rows);
        _question.Missing.CopyTo(still);
        Work += still.Length;
        for (int k = 0; k < _classes; k++)
        {
            if (x[k] == 0)
                continue;
            Work += still.Length;
            SubtractTimes(still, x[k], _question.GainOf(k));
        }

        return !still.ContainsAnyInRange(1, int.MaxValue);
    }

    // The set that misses most, and at once all violated conditions of linked VFs.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private bool AddViolated(ReadOnlySpan<double> x)
    {
        int all = _question.Rows;
        Span<double> still = _left.AsSpan(0, all);
        _missing.AsSpan(0, all).CopyTo(still);
        Work += 2L * all;
        for (int k = 0; k < _classes; k++)
        {
            if (x[k] == 0)
                continue;
            Work += all;
            AddTimes(still, -x[k], _gains.AsSpan(k * all, all));
        }

        int worst = -1;
        double most = 1e-6;
        bool added = false;
        for (int i = 0; i < all; i++)
        {
            if (still[i] <= (i < _question.SetRows ? most : 1e-6) || _isRow[i])
                continue;
            if (i < _question.SetRows)
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
        _isRow[row] = true;
        _rows.Add(row);
        int at = (_rows.Count - 1) * _classes;
        if (_gainsOfRow.Length < at + _classes)
            Array.Resize(ref _gainsOfRow, Math.Max(at + _classes, _gainsOfRow.Length * 2));
        Work += _classes;
        for (int k = 0; k < _classes; k++)
            _gainsOfRow[at + k] = _gains[(k * _question.Rows) + row];
    }

    // Nonbasic variables are the columns: classes 0..K-1, or slack K + 1 + row; K is z. Each row gives its basic variable as a sum over
    // them.
    private double Simplex(ReadOnlySpan<int> low, ReadOnlySpan<int> high, Span<double> x)
    {
        int m = _rows.Count;
        Work += (2L * m * _classes) + _classes;
        for (int k = 0; k < _classes; k++)
            x[k] = _least[k] = low[k];
        Resize(m);
        int first = 0;
        double most = 0;
        for (int i = 0; i < m; i++)
        {
            _value[i] = _missing[_rows[i]] - Dot(_least.AsSpan(0, _classes), _gainsOfRow.AsSpan(i * _classes, _classes));
            if (_value[i] > most)
                (first, most) = (i, _value[i]);
        }

        if (most <= 0)
            return 0;

        int z = _classes;
        int columns = _classes + 1;
        for (int j = 0; j < _classes; j++)
        {
            _nonbasic[j] = j;
            _reach[j] = high[j] - low[j];
        }

        _nonbasic[_classes] = z + 1 + first;
        _reach[z] = double.PositiveInfinity;
        ReadOnlySpan<double> ofFirst = _gainsOfRow.AsSpan(first * _classes, _classes);
        for (int i = 0; i < m; i++)
        {
            _reach[z + 1 + i] = double.PositiveInfinity;
            bool isFirst = i == first;
            _basic[i] = isFirst ? z : z + 1 + i;
            _value[i] = isFirst ? most : most - _value[i];
            Span<double> row = _table.AsSpan(i * _stride, columns);
            if (isFirst)
                row.Clear();
            else
                _gainsOfRow.AsSpan(i * _classes, _classes).CopyTo(row);
            AddTimes(row[.._classes], -1, ofFirst);
            row[_classes] = 1;
        }

        int zRow = first;
        for (int step = 0; step < 20_000; step++)
        {
            Work += m + columns;
            if (Work > Limit)
                return Finish(low, x, zRow);
            int enter = Entering(_table.AsSpan(zRow * _stride, columns), step > 5_000);
            if (enter < 0)
                return Finish(low, x, zRow);
            double direction = _atUpper[_nonbasic[enter]] > 0 ? -1 : 1;
            (int leave, double by) = Leaving(enter, direction, m, zRow);
            if (double.IsPositiveInfinity(by))
                return Finish(low, x, zRow);
            for (int i = 0; i < m; i++)
                _value[i] += _table[(i * _stride) + enter] * direction * by;
            if (leave < 0)
            {
                _atUpper[_nonbasic[enter]] = 1 - _atUpper[_nonbasic[enter]];
                continue;
            }

            bool toUpper = _table[(leave * _stride) + enter] * direction > 0;
            Pivot(leave, enter, m, columns, direction > 0 ? by : _reach[_nonbasic[enter]] - by, toUpper);
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
        double most = _reach[_nonbasic[enter]];
        for (int i = 0; i < m; i++)
        {
            double rate = _table[(i * _stride) + enter] * direction;
            double limit =
                rate < -Tiny ? _value[i] / -rate
                : rate > Tiny && !double.IsPositiveInfinity(_reach[_basic[i]]) ? (_reach[_basic[i]] - _value[i]) / rate
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
            if (_reach[_nonbasic[j]] <= 0)
                continue;
            double gain = _atUpper[_nonbasic[j]] > 0 ? objective[j] : -objective[j];
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
        Span<double> row = _table.AsSpan(leave * _stride, columns);
        double by = 1 / row[enter];
        for (int j = 0; j < columns; j++)
            row[j] *= -by;
        row[enter] = by;
        for (int i = 0; i < m; i++)
        {
            double factor = i == leave ? 0 : _table[(i * _stride) + enter];
            if (factor == 0)
                continue;
            Span<double> other = _table.AsSpan(i * _stride, columns);
            other[enter] = 0;
            Work += columns;
            AddTimes(other, factor, row);
        }

        (_basic[leave], _nonbasic[enter]) = (_nonbasic[enter], _basic[leave]);
        _value[leave] = entered;
        _atUpper[_nonbasic[enter]] = toUpper ? 1 : 0;
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
        Read(low, x, _rows.Count);
        // The objective's coefficients of the slacks are the weights of the conditions.
        _weights.AsSpan(0, _rows.Count).Clear();
        for (int j = 0; j <= _classes; j++)
        {
            int slack = _nonbasic[j] - _classes - 1;
            if (slack >= 0)
                _weights[slack] = Math.Max(0, _table[(zRow * _stride) + j]);
        }

        return _value[zRow];
    }

    private void Read(ReadOnlySpan<int> low, Span<double> x, int m)
    {
        for (int k = 0; k < _classes; k++)
            x[k] = low[k] + (_atUpper[k] > 0 ? _reach[k] : 0);
        for (int i = 0; i < m; i++)
        {
            if (_basic[i] < _classes)
                x[_basic[i]] = low[_basic[i]] + _value[i];
        }
    }

    // The weights as integers: with every class at its better end, the weighted sum of what is there stays below what is needed.
    private bool Refuted(ReadOnlySpan<int> low, ReadOnlySpan<int> high)
    {
        long there = 0;
        int used = 0;
        for (int i = 0; i < _rows.Count; i++)
        {
            _weights[i] = Math.Round(_weights[i] * (1 << 28));
            there -= (long)_weights[i] * _question.Missing[_rows[i]];
            used += _weights[i] != 0 ? 1 : 0;
        }

        Work += _rows.Count + ((long)used * _classes);
        for (int k = 0; k < _classes; k++)
        {
            ReadOnlySpan<int> gains = _question.GainOf(k);
            long gain = 0;
            for (int i = 0; i < _rows.Count; i++)
            {
                if (_weights[i] != 0)
                    gain += (long)_weights[i] * gains[_rows[i]];
            }

            there += Math.Max(gain * low[k], gain * high[k]);
        }

        return there < 0;
    }

    private void Resize(int m)
    {
        // Rows are added one by one: some more at once.
        if (_table.Length < m * _stride)
            _table = new double[(m + 16) * _stride];
        Need(ref _value, m);
        Need(ref _basic, m);
        Need(ref _weights, m);
        Need(ref _reach, _stride + m);
        Need(ref _nonbasic, _stride);
        Need(ref _atUpper, _stride + m).Clear();
    }

    private static Span<T> Need<T>(ref T[] array, int length)
    {
        if (array.Length < length)
            array = new T[length + (length / 2)];
        return array.AsSpan(0, length);
    }
}

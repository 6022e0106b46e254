using System.Numerics;

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

    private readonly int[][] gains;
    private readonly int[][] vfs;
    private readonly int[] sizes;
    private readonly long[] need;
    private readonly List<int> rows = [];
    private double[][] table = [];
    private double[] value = [];
    private double[] reach = [];
    private double[] atUpper = [];
    private int[] basic = [];
    private int[] nonbasic = [];
    private double[] weights = [];

    /// <param name="gains">By class and set: what one more card in PF mode adds.</param>
    /// <param name="vfs">By class and set: what a card in VF mode gives.</param>
    /// <param name="sizes">By class: how many cards.</param>
    /// <param name="need">By set: what is needed of the cards.</param>
    public CardRelaxation(int[][] gains, int[][] vfs, int[] sizes, long[] need)
    {
        (this.gains, this.vfs, this.sizes, this.need) = (gains, vfs, sizes, need);
        for (int set = 1; set < need.Length; set <<= 1)
            rows.Add(set);
        if (!rows.Contains(need.Length - 1))
            rows.Add(need.Length - 1);
    }

    /// <summary>Work so far: numbers looked at.</summary>
    public long Work { get; private set; }

    /// <summary>The work at which a solve ends without knowing.</summary>
    public long Limit { get; set; } = long.MaxValue;

    /// <summary>Weights of the sets that prove that there is no answer, after a <see cref="Solve"/> that said so.</summary>
    public long[]? Proof { get; private set; }

    /// <summary>Solves within bounds.</summary>
    /// <param name="low">By class, the least number of PFs.</param>
    /// <param name="high">By class, the most.</param>
    /// <param name="x">By class: a corner of the relaxation.</param>
    /// <returns>False when there is provably no answer in these bounds; true when the relaxation has one, or it is not known.</returns>
    public bool Solve(int[] low, int[] high, double[] x)
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

    /// <summary>Whether these numbers of PFs meet every set, in integers.</summary>
    public bool Answers(ReadOnlySpan<int> x)
    {
        for (int set = 1; set < need.Length; set++)
        {
            Work += sizes.Length;
            long left = -need[set];
            for (int k = 0; k < sizes.Length; k++)
                left += ((long)sizes[k] * vfs[k][set]) + ((long)x[k] * gains[k][set]);
            if (left < 0)
                return false;
        }
        return true;
    }

    // The set that misses most, and at once all violated conditions in the upper part, where those of linked VFs are (they come after the sets).
    private bool AddViolated(double[] x)
    {
        int sets = 1 << BitOperations.Log2((uint)need.Length);
        Work += (long)need.Length * sizes.Length;
        int worst = -1;
        double most = 1e-6;
        bool added = false;
        for (int set = 1; set < need.Length; set++)
        {
            double missing = need[set];
            for (int k = 0; k < sizes.Length; k++)
                missing -= (sizes[k] * vfs[k][set]) + (x[k] * gains[k][set]);
            if (missing <= (set < sets ? most : 1e-6) || rows.Contains(set))
                continue;
            if (set < sets)
            {
                (worst, most) = (set, missing);
                continue;
            }
            rows.Add(set);
            added = true;
        }
        if (worst >= 0)
            rows.Add(worst);
        return added || worst >= 0;
    }

    // Nonbasic variables are the columns: classes 0..K-1, or slack K + 1 + row; K is z. Each row gives its basic variable as a sum over them.
    private double Simplex(int[] low, int[] high, double[] x)
    {
        int classes = sizes.Length;
        int m = rows.Count;
        Work += 2L * m * classes;
        var missing = new double[m];
        int first = 0;
        for (int i = 0; i < m; i++)
        {
            double r = need[rows[i]];
            for (int k = 0; k < classes; k++)
                r -= ((double)sizes[k] * vfs[k][rows[i]]) + ((double)low[k] * gains[k][rows[i]]);
            missing[i] = r;
            if (r > missing[first])
                first = i;
        }
        for (int k = 0; k < classes; k++)
            x[k] = low[k];
        if (missing[first] <= 0)
            return 0;

        int z = classes;
        int columns = classes + 1;
        Resize(m, columns);
        for (int j = 0; j < classes; j++)
        {
            nonbasic[j] = j;
            reach[j] = high[j] - low[j];
            atUpper[j] = 0;
        }
        nonbasic[classes] = z + 1 + first;
        reach[z] = double.PositiveInfinity;
        for (int i = 0; i < m; i++)
        {
            reach[z + 1 + i] = double.PositiveInfinity;
            double[] row = table[i];
            bool isFirst = i == first;
            basic[i] = isFirst ? z : z + 1 + i;
            value[i] = isFirst ? missing[first] : missing[first] - missing[i];
            for (int j = 0; j < classes; j++)
                row[j] = isFirst ? -gains[j][rows[first]] : gains[j][rows[i]] - gains[j][rows[first]];
            row[classes] = 1;
        }
        int zRow = first;
        for (int step = 0; step < 20_000; step++)
        {
            Work += m + columns;
            if (Work > Limit)
                return Finish(low, x, zRow);
            int enter = Entering(table[zRow], columns, step > 5_000);
            if (enter < 0)
                return Finish(low, x, zRow);
            double direction = atUpper[nonbasic[enter]] > 0 ? -1 : 1;
            double most = reach[nonbasic[enter]];
            int leave = -1;
            for (int i = 0; i < m; i++)
            {
                double rate = table[i][enter] * direction;
                double limit = rate < -Tiny ? value[i] / -rate
                    : rate > Tiny && !double.IsPositiveInfinity(reach[basic[i]]) ? (reach[basic[i]] - value[i]) / rate
                    : double.PositiveInfinity;
                if (limit < most || (limit == most && i == zRow))
                    (most, leave) = (Math.Max(limit, 0), i);
            }
            if (double.IsPositiveInfinity(most))
                return Finish(low, x, zRow);
            for (int i = 0; i < m; i++)
                value[i] += table[i][enter] * direction * most;
            if (leave < 0)
            {
                atUpper[nonbasic[enter]] = 1 - atUpper[nonbasic[enter]];
                continue;
            }
            bool toUpper = table[leave][enter] * direction > 0;
            bool done = leave == zRow;
            Pivot(leave, enter, m, columns, direction > 0 ? most : reach[nonbasic[enter]] - most, toUpper);
            if (done)
            {
                Read(low, x, m);
                return 0;
            }
        }
        return Finish(low, x, zRow);
    }

    private int Entering(double[] objective, int columns, bool firstFound)
    {
        int best = -1;
        double most = 1e-8;
        for (int j = 0; j < columns; j++)
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

    private void Pivot(int leave, int enter, int m, int columns, double entered, bool toUpper)
    {
        double[] row = table[leave];
        double by = 1 / row[enter];
        for (int j = 0; j < columns; j++)
            row[j] *= -by;
        row[enter] = by;
        for (int i = 0; i < m; i++)
        {
            double factor = i == leave ? 0 : table[i][enter];
            if (factor == 0)
                continue;
            double[] other = table[i];
            other[enter] = 0;
            Work += columns;
            AddTimes(other.AsSpan(0, columns), factor, row);
        }
        (basic[leave], nonbasic[enter]) = (nonbasic[enter], basic[leave]);
        value[leave] = entered;
        atUpper[nonbasic[enter]] = toUpper ? 1 : 0;
    }

    private static void AddTimes(Span<double> to, double factor, ReadOnlySpan<double> row)
    {
        var factors = new Vector<double>(factor);
        int j = 0;
        for (; j <= to.Length - Vector<double>.Count; j += Vector<double>.Count)
            (new Vector<double>(to[j..]) + (factors * new Vector<double>(row[j..]))).CopyTo(to[j..]);
        for (; j < to.Length; j++)
            to[j] += factor * row[j];
    }

    private double Finish(int[] low, double[] x, int zRow)
    {
        Read(low, x, rows.Count);
        // The objective's coefficients of the slacks are the weights of the sets.
        weights = new double[need.Length];
        for (int j = 0; j <= sizes.Length; j++)
        {
            int slack = nonbasic[j] - sizes.Length - 1;
            if (slack >= 0)
                weights[rows[slack]] = Math.Max(0, table[zRow][j]);
        }
        return value[zRow];
    }

    private void Read(int[] low, double[] x, int m)
    {
        int classes = sizes.Length;
        for (int k = 0; k < classes; k++)
            x[k] = low[k] + (atUpper[k] > 0 ? reach[k] : 0);
        for (int i = 0; i < m; i++)
        {
            if (basic[i] < classes)
                x[basic[i]] = low[basic[i]] + value[i];
        }
    }

    // The weights as integers: with every class at its better end, the weighted sum of what is there stays below what is needed.
    private bool Refuted(int[] low, int[] high)
    {
        var proof = new long[need.Length];
        long left = 0;
        var used = new List<int>();
        for (int set = 1; set < need.Length; set++)
        {
            proof[set] = (long)Math.Round(weights[set] * (1 << 28));
            left -= proof[set] * need[set];
            if (proof[set] != 0)
                used.Add(set);
        }
        for (int k = 0; k < sizes.Length; k++)
        {
            long gain = 0;
            foreach (int set in used)
            {
                left += proof[set] * sizes[k] * vfs[k][set];
                gain += proof[set] * gains[k][set];
            }
            left += Math.Max(gain * low[k], gain * high[k]);
        }
        Work += need.Length + (2L * used.Count * sizes.Length);
        Proof = left < 0 ? proof : null;
        return left < 0;
    }

    private void Resize(int m, int columns)
    {
        if (table.Length < m || (table.Length > 0 && table[0].Length < columns))
        {
            table = new double[m + 16][];
            for (int i = 0; i < table.Length; i++)
                table[i] = new double[columns];
            value = new double[m + 16];
            basic = new int[m + 16];
        }
        if (reach.Length < columns + m)
        {
            reach = new double[columns + m + 16];
            atUpper = new double[columns + m + 16];
        }
        if (nonbasic.Length < columns)
            nonbasic = new int[columns];
        Array.Clear(atUpper);
    }
}

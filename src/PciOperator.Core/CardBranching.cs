namespace PciOperator.Core;

/// <summary>Branch and bound on <see cref="CardRelaxation"/>: halves the range of a class whose number of PFs is fractional, until the rest is proved empty or an answer is found.</summary>
internal sealed class CardBranching
{
    private const int MostRounded = 6;

    private readonly CardRelaxation relaxation;
    private readonly Stack<(int[] Low, int[] High)> open = new();
    private readonly int[] sizes;
    private readonly double[] x;
    private readonly int[] weight;

    public CardBranching(List<int[]> pf, List<int[]> vfs, List<int> sizes, long[] need)
    {
        this.sizes = [.. sizes];
        int[][] gains = [.. pf.Select((p, k) => p.Select((v, set) => v - vfs[k][set]).ToArray())];
        relaxation = new CardRelaxation(gains, [.. vfs], this.sizes, need);
        x = new double[sizes.Count];
        open.Push((new int[sizes.Count], [.. sizes]));
        weight = [.. gains.Select(g => WeightOf(g, 1 << System.Numerics.BitOperations.Log2((uint)need.Length)))];
    }

    /// <summary>Work so far: numbers looked at.</summary>
    public long Work => relaxation.Work;

    /// <summary>Goes on until so much work is done in all.</summary>
    /// <param name="limit">How much.</param>
    /// <param name="answer">By class, the number of PFs, when there is an answer.</param>
    /// <returns>Whether there is one; null when that is not known yet.</returns>
    public bool? Run(long limit, int[] answer)
    {
        relaxation.Limit = limit;
        while (open.Count > 0 && relaxation.Work < limit)
        {
            (int[] low, int[] high) = open.Pop();
            if (!relaxation.Solve(low, high, x))
                continue;
            if (Round(low, high, answer))
                return true;
            Branch(low, high);
        }
        return open.Count == 0 ? false : null;
    }

    // A linked VF's use follows from the modes of its two cards, so it is never branched on while a card is open; and the card with the most
    // links decides most at once.
    private static int WeightOf(int[] gain, int sets)
    {
        int links = 0;
        for (int row = sets; row < gain.Length; row++)
        {
            links += gain[row] != 0 ? 1 : 0;
            if (gain[row] < 0 && ((row - sets) & 1) == 0)
                return 1;
        }
        return (1 + links) << 20;
    }

    // Every way to round the fractional numbers, when they are few.
    private bool Round(int[] low, int[] high, int[] answer)
    {
        var fractional = new List<int>();
        for (int k = 0; k < x.Length; k++)
        {
            double near = Math.Round(x[k]);
            answer[k] = (int)Math.Clamp(near, low[k], high[k]);
            if (Math.Abs(x[k] - near) > 1e-6)
                fractional.Add(k);
        }
        if (fractional.Count > MostRounded)
            return false;
        for (int ways = 0; ways < 1 << fractional.Count && relaxation.Work < relaxation.Limit; ways++)
        {
            for (int i = 0; i < fractional.Count; i++)
                answer[fractional[i]] = (int)Math.Clamp(Math.Floor(x[fractional[i]]) + (ways >> i & 1), low[fractional[i]], high[fractional[i]]);
            if (relaxation.Answers(answer))
                return true;
        }
        return false;
    }

    private void Branch(int[] low, int[] high)
    {
        int widest = -1;
        double most = 1e-6;
        for (int k = 0; k < x.Length; k++)
        {
            double fraction = Math.Min(x[k] - Math.Floor(x[k]), Math.Ceiling(x[k]) - x[k]);
            if (fraction * weight[k] > most && low[k] < high[k])
                (widest, most) = (k, fraction * weight[k]);
        }
        int cut;
        if (widest >= 0)
            cut = (int)Math.Clamp(Math.Floor(x[widest]), low[widest], high[widest] - 1);
        else
        {
            // Only rounding errors are left: any class that is still open.
            widest = 0;
            for (int k = 0; k < x.Length; k++)
            {
                if (high[k] - low[k] > high[widest] - low[widest])
                    widest = k;
            }
            if (low[widest] == high[widest])
                return;
            cut = (low[widest] + high[widest]) / 2;
        }
        int[] below = [.. high];
        below[widest] = cut;
        int[] above = [.. low];
        above[widest] = cut + 1;
        bool upFirst = x[widest] - cut > 0.5;
        if (upFirst)
            open.Push((low, below));
        open.Push((above, high));
        if (!upFirst)
            open.Push((low, below));
    }
}

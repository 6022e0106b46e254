namespace PciOperator.Core;

/// <summary>
/// Hall's theorem over sets of columns: devices can be matched to all requests exactly when, for every set of columns,
/// the devices that may serve any of them are at least as many as the set asks for.
/// </summary>
/// <remarks>Vectors have one element for each set of columns (a bit mask), 256 for the 8 requests of a claim.</remarks>
internal static class Hall
{
    /// <summary>
    /// Turns the number of devices by their mask into the number of devices by what they can reach: for each set, those
    /// whose mask meets it.
    /// </summary>
    /// <param name="counts">By mask; left as sums over subsets.</param>
    /// <param name="supply">By set.</param>
    public static void Supply(Span<int> counts, Span<int> supply)
    {
        int sets = counts.Length;
        for (int bit = 1; bit < sets; bit <<= 1)
        {
            for (int high = 0; high < sets; high += bit << 1)
            {
                Span<int> without = counts.Slice(high, bit);
                Span<int> with = counts.Slice(high + bit, bit);
                for (int i = 0; i < with.Length; i++)
                    with[i] += without[i];
            }
        }

        int total = counts[sets - 1];
        for (int set = 0; set < sets; set++)
            supply[set] = total - counts[sets - 1 - set];
    }

    /// <summary>Whether every set's supply meets its demand.</summary>
    public static bool Met(ReadOnlySpan<int> supply, ReadOnlySpan<int> demand)
    {
        for (int set = 1; set < demand.Length; set++)
        {
            if (supply[set] < demand[set])
                return false;
        }

        return true;
    }
}

using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>The guards of all functions, where what is taken together is refused together.</summary>
internal sealed partial class Guards
{
    // The guard of what the host is made of.
    private const string OfTheHost = "SystemDevice";

    /// <summary>The first guard that refuses any of the functions that would be taken together, for each of them.</summary>
    /// <param name="functions">All of the host's functions.</param>
    /// <param name="use">How the host uses them.</param>
    /// <param name="held">Those that a claim has.</param>
    public List<HostFunction> CheckTogether(List<HostFunction> functions, HostUse use, IReadOnlySet<PciAddress> held)
    {
        var verdicts = functions
            .Where(f => !f.Function.IsBridge)
            .ToDictionary(f => f.Address, f => Check(f, use, held.Contains(f.Address)));

        // A PF goes with its VFs, and any function with its group: its own refusal comes before theirs.
        var alone = new Dictionary<PciAddress, GuardRefusal>();
        foreach ((PciAddress address, GuardVerdict verdict) in verdicts)
        {
            if (verdict.Refusal is { } refusal)
                alone[address] = refusal;
        }

        foreach (HostFunction f in functions)
        {
            if (f.Function.ParentAddress is { } pf && verdicts.GetValueOrDefault(f.Address).Refusal is { } refusal)
                alone.TryAdd(pf, refusal);
        }

        var groups = new Dictionary<int, GuardRefusal>();
        foreach (HostFunction f in functions)
        {
            if (f.Function.IommuGroup is { } group && alone.TryGetValue(f.Address, out GuardRefusal? refusal))
                groups.TryAdd(group, refusal);
        }

        foreach (HostFunction f in functions.Where(f => f.Function.IsBridge))
        {
            if (f.Function.IommuGroup is { } group && SpoilsGroup(f) is { } refusal)
                groups.TryAdd(group, refusal);
        }

        return
        [
            .. functions.Select(f =>
            {
                if (f.Function.IsBridge)
                    return f;
                GuardRefusal? refusal =
                    alone.GetValueOrDefault(f.Address) ?? (f.Function.IommuGroup is { } group ? groups.GetValueOrDefault(group) : null);
                return f with
                {
                    GuardName = refusal?.Guard,
                    GuardReason = refusal?.Sentence,
                    IsOfTheHost = alone.GetValueOrDefault(f.Address)?.Guard == OfTheHost,
                    Overridden = verdicts[f.Address].Overridden?.Sentence,
                };
            }),
        ];
    }
}

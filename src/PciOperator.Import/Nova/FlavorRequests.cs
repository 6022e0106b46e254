using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.Import;

/// <summary>What a flavor asks for as a claim's requests.</summary>
internal static class FlavorRequests
{
    private const int MostOfOne = 16;
    private const int MostRequests = 8;

    /// <summary>The requests, named after their aliases where that names them apart, else r1, r2, …</summary>
    /// <param name="asked">What the flavor says.</param>
    /// <param name="aliases">The PciAliases by Nova's name; null: not known.</param>
    /// <param name="notes">What is otherwise than the flavor says it.</param>
    /// <exception cref="SpecFormatException">An alias is not defined, or a claim can't hold so much.</exception>
    public static IReadOnlyList<ClaimRequest> Of(
        IReadOnlyList<NovaRequest> asked,
        IReadOnlyDictionary<string, string>? aliases,
        List<string> notes
    )
    {
        var requests = new List<ClaimRequest>();
        foreach (NovaRequest one in asked)
        {
            string alias = AliasOf(one.Alias, aliases, notes);
            if (one.Count > MostOfOne)
                notes.Add($"{Text.Shorten(one.Alias)}:{one.Count} is several requests: one is for {MostOfOne} devices at most.");
            for (long left = one.Count; left > 0; left -= MostOfOne)
            {
                if (requests.Count == MostRequests)
                {
                    throw new SpecFormatException(
                        "count",
                        $"a claim has {MostRequests} requests of {MostOfOne} devices at most: make two claims, and name each in the other's coLocateWith"
                    );
                }

                requests.Add(new ClaimRequest { Alias = alias, Count = (int)Math.Min(left, MostOfOne) });
            }
        }

        Name(requests, (r, _) => ObjectNames.Label(r.Alias, "device"));
        if (FieldChecks.Broken(new PassthroughClaimSpec { Requests = requests }) is not null)
            Name(requests, (_, i) => $"r{i + 1}");
        return requests;
    }

    private static string AliasOf(string name, IReadOnlyDictionary<string, string>? aliases, List<string> notes)
    {
        string alias = ObjectNames.Label(name, "alias");
        if (aliases is not null && !aliases.TryGetValue(name, out alias!))
            throw new SpecFormatException("alias", $"PCI alias '{Text.Shorten(name)}' is not defined in the nova.conf that was given");
        string note = $"Nova's alias {Text.Shorten(name)} is the PciAlias {alias}.";
        if (alias != name && !notes.Contains(note))
            notes.Add(note);
        return alias;
    }

    private static void Name(List<ClaimRequest> requests, Func<ClaimRequest, int, string> name)
    {
        for (int i = 0; i < requests.Count; i++)
            requests[i].Name = name(requests[i], i);
    }
}

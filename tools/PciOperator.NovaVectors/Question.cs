using System.Text.Json;
using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.NovaVectors;

/// <summary>
/// What a case, or a claim in a sequence, asks of a host: devices, of which resource providers (Nova's Placement chose them;
/// <c>rp_uuids</c>), for a guest on given NUMA nodes or on as many as it has (<c>instance_numa_nodes</c>).
/// </summary>
/// <remarks>
/// A provider is written as a trait: classes and traits play no part in the files' verdicts, so nothing else is one. Each unit of a request
/// that Placement gave a provider comes from that one, as Nova claims it.
/// </remarks>
internal sealed class Question
{
    // Nova tries the host's cells in all their orders; more sets of them no host has.
    private const int MostPlaces = 10_000;

    private readonly IReadOnlyList<IReadOnlyList<string>?> _providers;

    private Question(
        IReadOnlyList<NovaRequest> parsed,
        ClaimRequirements claim,
        IReadOnlyList<IReadOnlyList<string>?> providers,
        IReadOnlyList<GuestNuma> places
    )
    {
        (Parsed, Claim, _providers, Places) = (parsed, claim, providers, places);
        Names = [.. providers.OfType<IReadOnlyList<string>>().SelectMany(p => p).Distinct(StringComparer.Ordinal)];
    }

    /// <summary>Nova's items.</summary>
    public IReadOnlyList<NovaRequest> Parsed { get; }

    /// <summary>The claim as it is written, without providers and for the first place.</summary>
    public ClaimRequirements Claim { get; }

    /// <summary>All providers that it names.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>Where the guest may be; more than one when the host's nodes are to be found.</summary>
    public IReadOnlyList<GuestNuma> Places { get; }

    /// <summary>Reads it.</summary>
    /// <param name="line">A case or an operation.</param>
    /// <param name="owner">The claim's UID.</param>
    /// <param name="aliases">By name.</param>
    /// <param name="cells">The host's NUMA nodes.</param>
    /// <exception cref="SpecFormatException">A text in it that Nova has a say on.</exception>
    /// <exception cref="InvalidDataException">A field of the case that means nothing here.</exception>
    public static Question Of(
        JsonElement line,
        string owner,
        IReadOnlyDictionary<string, AliasDefinition> aliases,
        IReadOnlyList<int> cells
    )
    {
        string text = VectorHost.Text(line, "request") ?? throw new InvalidDataException("it has no request");
        NumaPolicy? policy = PolicyOf(line);
        // Resource classes and traits are Placement's there; an alias by class alone then means any device of its kind.
        IReadOnlyList<DeviceRequest> requests = NovaRequestString.Resolve(
            text,
            aliases.ToDictionary(
                a => a.Key,
                a => a.Value with { AnyOf = [.. a.Value.AnyOf.Select(s => s with { ResourceClass = null, Traits = [] })] }
            )
        );
        IReadOnlyList<GuestNuma> places = PlacesOf(line, cells);
        var claim = new ClaimRequirements
        {
            ClaimUid = owner,
            Requests = requests,
            NumaPolicy = policy,
            GuestNuma = places.Count > 0 ? places[0] : GuestNuma.None,
        };
        return new Question(NovaRequestString.Parse(text), claim, ProvidersOf(line, requests), places);
    }

    /// <summary>The flavor's and the image's NUMA policy.</summary>
    /// <exception cref="SpecFormatException">One is no policy, or they differ.</exception>
    public static NumaPolicy? PolicyOf(JsonElement line) =>
        NovaRequestString.EffectivePolicy(
            VectorHost.Text(line, "flavor_numa_policy") ?? VectorHost.Text(line, "numa_policy"),
            VectorHost.Text(line, "image_numa_policy")
        );

    /// <summary>The providers of a request, one for each unit; null: Placement gave it none.</summary>
    public IReadOnlyList<string>? ProvidersOf(int request) => request < _providers.Count ? _providers[request] : null;

    /// <summary>Decides it: the first place that serves it, else why the last does not.</summary>
    /// <param name="node">The host.</param>
    /// <param name="of">The provider of each device that has one.</param>
    /// <param name="fault">What is wrong with what is given, by the rules alone.</param>
    public NodeVerdict Decide(NodeInventory node, IReadOnlyDictionary<PciAddress, string> of, out string? fault)
    {
        NodeInventory known =
            Names.Count == 0
                ? node
                : NodeInventory.Build(
                    node.Name,
                    [
                        .. node.Devices.Select(d =>
                            d.Tags is { } tags
                                ? d with
                                {
                                    Tags = tags with
                                    {
                                        Traits = of.TryGetValue(d.Function.Address, out string? p) && Names.Contains(p) ? [TraitOf(p)] : [],
                                    },
                                }
                                : d
                        ),
                    ],
                    node.Sockets
                );
        fault = null;
        NodeVerdict verdict = new NodeVerdict.Refused(new RefusalReason(RefusalCodes.NumaPolicy, "have too few NUMA nodes for the guest"));
        foreach (GuestNuma place in Places)
        {
            ClaimRequirements claim = Claim with { GuestNuma = place, Requests = [.. Claim.Requests.SelectMany(ByProvider)] };
            NodeVerdict here = Allocator.TryNode(known, claim);
            if (here is NodeVerdict.Served served)
            {
                fault = Soundness.Fault(known, claim, served.Allocation);
                return here;
            }

            verdict = verdict is NodeVerdict.TooComplex ? verdict : here;
        }

        return verdict;
    }

    /// <summary>For a guest on these nodes alone.</summary>
    public Question On(IEnumerable<int> cells) => new(Parsed, Claim, _providers, [GuestNuma.On(cells)]);

    /// <summary>What is said of a verdict, with the guest's nodes where they had to be found.</summary>
    public string Describe(NodeVerdict verdict) =>
        CaseCheck.Describe(verdict) + (Places.Count > 1 ? $" (guest on any {Places[0].Nodes.Count} of the host's nodes)" : "");

    private IEnumerable<DeviceRequest> ByProvider(DeviceRequest request, int index)
    {
        if (ProvidersOf(index) is not { } units)
            return [request];
        return units
            .GroupBy(p => p)
            .Select(p =>
                request with
                {
                    Name = $"{request.Name}@{p.Key}",
                    Count = p.Count(),
                    Alias = request.Alias with { AnyOf = [.. request.Alias.AnyOf.Select(s => s with { Traits = [TraitOf(p.Key)] })] },
                }
            );
    }

    private string TraitOf(string provider) => $"CUSTOM_PROVIDER_{Names.TakeWhile(n => n != provider).Count()}";

    private static IReadOnlyList<GuestNuma> PlacesOf(JsonElement line, IReadOnlyList<int> cells)
    {
        bool given = line.TryGetProperty("numa_cells", out JsonElement on) && on.ValueKind != JsonValueKind.Null;
        if (VectorHost.Number(line, "instance_numa_nodes") is not { } nodes || (given && on.GetArrayLength() > 0))
            return [given ? GuestNuma.On(on.EnumerateArray().Select(c => c.GetInt32())) : GuestNuma.None];
        if (nodes < 1)
            return [GuestNuma.None];
        List<GuestNuma> places = [.. Sets(cells, nodes).Take(MostPlaces + 1).Select(c => GuestNuma.On(c))];
        return places.Count <= MostPlaces
            ? places
            : throw new InvalidDataException($"{nodes} of {cells.Count} NUMA nodes are more ways than are tried here ({MostPlaces})");
    }

    // All sets of so many, in Nova's order.
    private static IEnumerable<int[]> Sets(IReadOnlyList<int> cells, int size, int from = 0)
    {
        if (size == 0)
        {
            yield return [];
            yield break;
        }

        for (int i = from; i <= cells.Count - size; i++)
        {
            foreach (int[] rest in Sets(cells, size - 1, i + 1))
                yield return [cells[i], .. rest];
        }
    }

    // A list for each item, of names or with commas between them; an empty one, or null: Placement chose none.
    private static List<IReadOnlyList<string>?> ProvidersOf(JsonElement line, IReadOnlyList<DeviceRequest> requests)
    {
        if (!line.TryGetProperty("rp_uuids", out JsonElement lists) || lists.ValueKind == JsonValueKind.Null)
            return [];
        if (lists.ValueKind != JsonValueKind.Array || lists.GetArrayLength() != requests.Count)
            throw new InvalidDataException($"rp_uuids must have one list for each of the {requests.Count} items of the request");
        var all = new List<IReadOnlyList<string>?>();
        foreach (JsonElement list in lists.EnumerateArray())
        {
            string[] names = list.ValueKind switch
            {
                JsonValueKind.Null => [],
                JsonValueKind.String => list.GetString()!.Split(',', StringSplitOptions.RemoveEmptyEntries),
                _ => [.. list.EnumerateArray().Select(n => n.GetString()!)],
            };
            // Nova's Placement gives each device of an item a unit.
            if (names.Length > 0 && names.Length != requests[all.Count].Count)
            {
                throw new InvalidDataException(
                    $"rp_uuids names {names.Length} providers for {requests[all.Count].Count} devices of item {all.Count + 1}"
                );
            }

            all.Add(names.Length == 0 ? null : names);
        }

        return all;
    }
}

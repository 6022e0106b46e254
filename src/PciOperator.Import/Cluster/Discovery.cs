using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Import;

/// <summary>A cluster to propose something for.</summary>
public sealed record DiscoverySource
{
    /// <summary>The nodes, with what their agents say of devices that no spec names (<see cref="PciNodeStatus.Unmatched"/>).</summary>
    public required IReadOnlyList<PciNode> Nodes { get; init; }

    /// <summary>Names that specs have already: none of these is proposed.</summary>
    public IReadOnlyCollection<string> SpecNames { get; init; } = [];

    /// <summary>The aliases that are there: for what one of them asks for by its ids no other is proposed.</summary>
    public IReadOnlyList<PciAlias> Aliases { get; init; } = [];

    /// <summary>The one node that the specs shall be for; null: any.</summary>
    public string? OnlyNode { get; init; }

    /// <summary>What a device is called; null: nobody knows.</summary>
    public Func<PciNodeDevice, string?> NameOf { get; init; } = device => device.Name;
}

/// <summary>
/// PciDeviceSpecs and PciAliases for what nodes have and no spec names: for each kind of card one of each. What a guard refuses is said and not
/// proposed, and what is taken together (an IOMMU group, or a card's functions) is one card, asked for by its first function.
/// </summary>
public static class Discovery
{
    private const int MostPlaces = 8;
    private const int MostSelectors = 64;
    private const uint Display = 0x03;
    private const uint Network = 0x02;
    private const uint Accelerator = 0x12;
    private const uint Coprocessor = 0x0b;

    /// <summary>Proposes; nothing is asked of the cluster, and nothing changed.</summary>
    public static ImportResult Propose(DiscoverySource source)
    {
        ArgumentNullException.ThrowIfNull(source);
        var draft = new ImportDraft();
        foreach (string name in source.SpecNames)
            draft.SpecNames.Unique(name);
        foreach (PciAlias alias in source.Aliases)
            draft.AliasNames.Unique(alias.Metadata.Name);

        foreach (PciNode node in source.Nodes)
            NoteNode(draft, node);
        List<Card> cards = [.. source.Nodes.SelectMany(CardsOf)];
        foreach (IGrouping<(string, string, DeviceType), Card> kind in cards.GroupBy(c => c.Kind).OrderBy(k => Rank(k.First().Lead)))
            Add(draft, source, [.. kind]);
        return draft.Result([]);
    }

    private static void NoteNode(ImportDraft draft, PciNode node)
    {
        string name = node.Metadata.Name;
        if (node.Status?.Devices is null)
        {
            draft.Notes.Add($"{name}: its agent has not said yet what it has.");
        }
        else if (node.Status.Unmatched?.Count >= PciNodeStatus.MostUnmatched)
        {
            draft.Notes.Add(
                $"{name}: of what no spec names only the first {PciNodeStatus.MostUnmatched} are known; with specs for these come the next."
            );
        }

        if (node.Status?.Conditions.Find(Conditions.IommuEnabled) is { Status: "False" } off)
            draft.Notes.Add($"{name} can't give anything away as it is: {off.Message}.");
    }

    /// <summary>A node's unmatched devices by what is taken together; those that keep a group from being offered are among them.</summary>
    private static IEnumerable<Card> CardsOf(PciNode node)
    {
        IReadOnlyList<PciNodeDevice> known = node.Status?.Devices ?? [];
        // A port whose VFs are offered is in use by that.
        var ports = known.Where(d => d.Rule is not null).Select(d => d.ParentAddress).ToHashSet();
        return known
            .Where(d => d is { Rule: null, State: null or DeviceState.Available } && d.Bridge != true)
            .Concat(node.Status?.Unmatched ?? [])
            .Where(d => d.Type is DeviceType.Pci or DeviceType.Pf && !ports.Contains(d.Address))
            .GroupBy(d => d.IommuGroup is { } group ? $"group {group}" : d.Address[..d.Address.LastIndexOf('.')])
            .Select(g => new Card(node.Metadata.Name, [.. g.OrderBy(Rank).ThenBy(d => PciAddress.Parse(d.Address))]));
    }

    private static void Add(ImportDraft draft, DiscoverySource source, List<Card> cards)
    {
        PciNodeDevice lead = cards[0].Lead;
        List<Card> free = [.. cards.Where(c => c.Refusal is null)];
        string title = $"{source.NameOf(lead) ?? "a device"} [{lead.VendorId}:{lead.ProductId}]";
        List<string> refused = [.. cards.Where(c => c.Refusal is not null).Select(c => $"{c.Node}: {c.Refusal}")];
        if (free.Count == 0)
        {
            draft.Notes.Add($"Not proposed: {title}. {Some(refused, " ")}");
            return;
        }

        var notes = new List<string> { $"{title}: {free.Count} on {Some([.. free.Select(c => c.Place)], ", ")}." };
        if (refused.Count > 0)
            notes.Add($"The spec names these too, and guards keep them as long as that holds: {Some(refused, " ")}");
        List<PciNodeDevice> companions = [.. free.SelectMany(c => c.Companions).DistinctBy(d => (d.VendorId, d.ProductId))];
        companions.RemoveAll(d => (d.VendorId, d.ProductId) == (lead.VendorId, lead.ProductId));
        if (companions.Count > 0)
        {
            notes.Add(
                $"With it goes the rest of its IOMMU group: {Some([.. companions.Select(d => $"{source.NameOf(d) ?? "a device"} [{d.VendorId}:{d.ProductId}]")], ", ")}."
            );
        }

        if (lead is { Type: DeviceType.Pf, TotalVfs: > 0 and var most })
        {
            notes.Add(
                $"This gives the whole card away. To give its VFs away instead, add sriov: {{numVfs: N}} (up to {most}) to the spec, and to the alias deviceType: type-VF with the VFs' productId."
            );
        }

        string from = cards[0].Place;
        string name = draft.SpecNames.Unique(
            ObjectNames.Label(Short(source.NameOf(lead)) ?? $"pci-{lead.VendorId}-{lead.ProductId}", "device")
        );
        draft.AddNamed(
            new Place(from, null),
            name,
            new PciDeviceSpecSpec
            {
                NodeSelector = source.OnlyNode is { } node ? new Dictionary<string, string> { [NovaConfImport.NodeLabel] = node } : null,
                Devices =
                [
                    .. companions
                        .Prepend(lead)
                        .Select(d => new DeviceSelectorSpec { VendorId = d.VendorId, ProductId = d.ProductId })
                        .Take(MostSelectors),
                ],
            },
            notes
        );
        if (source.Aliases.FirstOrDefault(a => a.Spec.Devices.Any(d => AsksFor(d, lead))) is { } known)
        {
            draft.Notes.Add($"PciAlias {known.Metadata.Name} asks for {title} already: no other is proposed.");
            return;
        }

        draft.Add(
            new Place(from, null),
            draft.AliasNames.Unique(name),
            new PciAliasSpec
            {
                Devices =
                [
                    new AliasDevice
                    {
                        VendorId = lead.VendorId,
                        ProductId = lead.ProductId,
                        // Without a type an alias gives anything but a whole PF.
                        DeviceType = lead.Type == DeviceType.Pf ? DeviceType.Pf : null,
                    },
                ],
            },
            []
        );
    }

    private static bool AsksFor(AliasDevice alias, PciNodeDevice device) =>
        Is(alias.VendorId, device.VendorId)
        && Is(alias.ProductId, device.ProductId)
        && (alias.DeviceType is { } type ? type == device.Type : device.Type == DeviceType.Pci);

    private static bool Is(string? asked, string id) => PciId.TryParse(asked, out PciId wanted) && wanted.ToString() == id;

    /// <summary>What people mean by a card comes first; its sound and its ports go with it.</summary>
    private static int Rank(PciNodeDevice device) =>
        (uint.TryParse(device.ClassCode, System.Globalization.NumberStyles.HexNumber, null, out uint code) ? code >> 16 : 0) switch
        {
            Display or Accelerator or Coprocessor => 0,
            Network => 1,
            0x01 => 2,
            _ => 3,
        };

    /// <summary>"GeForce RTX 2080 Ti" of "NVIDIA Corporation TU102 [GeForce RTX 2080 Ti]"; the whole where nothing is in brackets.</summary>
    private static string? Short(string? name)
    {
        if (string.IsNullOrWhiteSpace(name))
            return null;
        (int from, int to) = (name.IndexOf('[', StringComparison.Ordinal), name.LastIndexOf(']'));
        return from >= 0 && to > from + 1 ? name[(from + 1)..to] : name;
    }

    private static string Some(List<string> all, string between) =>
        all.Count <= MostPlaces
            ? string.Join(between, all)
            : $"{string.Join(between, all.Take(MostPlaces))}{between}and {all.Count - MostPlaces} more";

    /// <summary>What is taken together.</summary>
    /// <param name="Node">Its node.</param>
    /// <param name="Functions">Its functions, the one that people ask for first.</param>
    private sealed record Card(string Node, IReadOnlyList<PciNodeDevice> Functions)
    {
        public PciNodeDevice Lead => Functions[0];

        public IEnumerable<PciNodeDevice> Companions => Functions.Skip(1);

        public (string, string, DeviceType) Kind => (Lead.VendorId, Lead.ProductId, Lead.Type);

        /// <summary>Why it can't be offered, and which; null: it can.</summary>
        public string? Refusal =>
            Functions.FirstOrDefault(f => f.Reason is not null) is not { } refused ? null
            : refused.Reason!.Contains(refused.Address, StringComparison.Ordinal) ? refused.Reason
            : $"{refused.Address}: {refused.Reason}";

        public string Place => $"{Node} {Lead.Address}";
    }
}

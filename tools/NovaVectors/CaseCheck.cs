using System.Text.Json;
using PciOperator.Core;

namespace PciOperator.NovaVectors;

/// <summary>One host, its specs and aliases, one request.</summary>
internal static class CaseCheck
{
    private static readonly HashSet<string> PoolKeys = ["vendor_id", "product_id", "numa_node", "dev_type", "address", "parent_ifname", "count", "devices", "rp_uuid"];

    public static void Run(LineResult result, JsonElement line, JsonElement nova, JsonElement? yardstick)
    {
        result.Exact = yardstick is not null;
        VectorHost host = VectorHost.Of(line.GetProperty("devices"), line.TryGetProperty("host_cells", out JsonElement cells) ? cells : default);
        (IReadOnlyList<DeviceRule> rules, SpecFormatException? specError) = VectorHost.Rules(line.GetProperty("device_specs"), host.Functions);
        (IReadOnlyDictionary<string, AliasDefinition> aliases, IReadOnlyList<NovaAlias> values, SpecFormatException? aliasError) = VectorHost.Aliases(line.GetProperty("aliases"));

        NovaError? novaSpec = NovaError.Of(nova, "spec_error");
        NovaError? novaAlias = NovaError.Of(nova, "alias_error");
        NovaError? novaRequest = NovaError.Of(nova, "request_error");
        NovaError? novaApi = NovaError.Of(nova, "extra_spec_error");
        bool error = novaSpec is not null || novaAlias is not null || novaRequest is not null || novaApi is not null;

        Compare(result, DifferenceKind.Spec, "device specs", [novaSpec], specError, VectorHost.VfProductUnsaid(line.GetProperty("device_specs"), host.Functions));
        Compare(result, DifferenceKind.Alias, "aliases", [novaAlias], aliasError);
        string text = line.GetProperty("request").GetString()!;
        (ClaimRequirements? claim, SpecFormatException? requestError) = Claim(line, text, aliases);
        // Where the aliases are bad, or Nova's Placement can't take them, all requests fail with the same words; what else Nova would have named is not known.
        bool sameAsAlias = novaAlias is not null && novaRequest?.Message == novaAlias.Message;
        if (aliasError is null && !(sameAsAlias && (novaApi is null || requestError is not null)))
            Compare(result, DifferenceKind.Request, $"request '{text}'", sameAsAlias ? [novaApi] : [novaRequest, novaApi], requestError);
        if (result.Failed || error || specError is not null || aliasError is not null || claim is null)
            return;

        IReadOnlyDictionary<PciAddress, DeviceRule> matched = DeviceMatcher.Match(host.Functions, rules);
        NodeInventory node = host.ToNode(matched);
        NodeVerdict verdict = Allocator.TryNode(node, claim);
        string said = Describe(verdict);
        if (verdict is NodeVerdict.TooComplex)
            result.Fail("verdict", "", said, "nothing in these files is too complex to decide");
        if (verdict is NodeVerdict.Served served && Soundness.Fault(node, claim, served.Allocation) is { } fault)
            result.Fail("allocation", "", said, fault);
        if (yardstick is { } exact)
        {
            bool feasible = exact.GetProperty("feasible").GetBoolean();
            if (feasible != verdict is NodeVerdict.Served)
                result.Fail("verdict", feasible ? "an assignment exists" : "no assignment exists", said, $"request '{text}' must be {(feasible ? "served" : "refused")}");
            return;
        }
        CompareMatches(result, line, nova, matched);
        ComparePools(result, nova, node, ReservedTags(line), NullTag(line));
        CompareRequests(result, nova, text, claim, values);
    }

    private static (ClaimRequirements? Claim, SpecFormatException? Error) Claim(JsonElement line, string text, IReadOnlyDictionary<string, AliasDefinition> aliases)
    {
        try
        {
            NumaPolicy? policy = NovaRequestString.EffectivePolicy(
                VectorHost.Text(line, "flavor_numa_policy") ?? VectorHost.Text(line, "numa_policy"), VectorHost.Text(line, "image_numa_policy"));
            // Resource classes and traits are Placement's there; an alias by class alone then means any device of its kind.
            IReadOnlyList<DeviceRequest> requests = NovaRequestString.Resolve(
                text, aliases.ToDictionary(a => a.Key, a => a.Value with { AnyOf = [.. a.Value.AnyOf.Select(s => s with { ResourceClass = null, Traits = [] })] }));
            return (new ClaimRequirements { ClaimUid = "instance", Requests = requests, NumaPolicy = policy, GuestNuma = VectorHost.Guest(line) }, null);
        }
        catch (SpecFormatException e)
        {
            return (null, e);
        }
    }

    // Both accept, or both refuse over the same field.
    internal static void Compare(LineResult result, DifferenceKind kind, string what, NovaError?[] nova, SpecFormatException? ours, bool vfProductUnsaid = false)
    {
        NovaError[] errors = [.. nova.OfType<NovaError>()];
        if (errors.Length == 0 ? ours is null : ours is not null && errors.Any(e => e.IsAbout(ours.Field)))
            return;
        result.Differ(new Difference(
            kind, what, errors.Length == 0 ? "accepted" : string.Join(" / ", errors.Select(e => e.ToString())),
            ours is null ? "accepted" : $"{ours.Field}: {ours.Message}", ours is not null, errors.Length > 0)
        {
            VfProductUnsaid = vfProductUnsaid,
        });
    }

    private static void CompareMatches(LineResult result, JsonElement line, JsonElement nova, IReadOnlyDictionary<PciAddress, DeviceRule> matched)
    {
        if (!nova.TryGetProperty("matched", out JsonElement expected) || expected.ValueKind != JsonValueKind.Object)
            return;
        foreach (JsonProperty p in expected.EnumerateObject())
        {
            string theirs = p.Value.ValueKind == JsonValueKind.Number ? p.Value.GetInt32().ToString() : "none";
            string ours = PciAddress.TryParse(p.Name, out PciAddress a) && matched.TryGetValue(a, out DeviceRule? rule) ? rule.Name : "none";
            if (theirs != ours)
                result.Fail($"the spec that {p.Name} matches", theirs, ours, $"specs: {line.GetProperty("device_specs").GetRawText()}");
        }
    }

    private static bool ReservedTags(JsonElement line) =>
        line.GetProperty("device_specs").EnumerateArray().Any(s => s.ValueKind == JsonValueKind.Object
            && s.EnumerateObject().Any(p => PoolKeys.Contains(p.Name) && p.Name is not ("vendor_id" or "product_id" or "address")));

    private static bool NullTag(JsonElement line) =>
        line.GetProperty("device_specs").EnumerateArray().Any(s => s.ValueKind == JsonValueKind.Object
            && s.EnumerateObject().Any(p => p.Value.ValueKind == JsonValueKind.Null && p.Name is not ("address" or "devname")));

    private static void ComparePools(LineResult result, JsonElement nova, NodeInventory node, bool reservedTags, bool nullTag)
    {
        if (!nova.TryGetProperty("pools", out JsonElement expected) || expected.ValueKind != JsonValueKind.Array)
            return;
        SortedDictionary<string, SortedSet<string>> theirs = PoolText.Of(expected);
        SortedDictionary<string, SortedSet<string>> ours = PoolText.Of(node.Pools);
        string a = PoolText.Show(theirs, ours);
        string b = PoolText.Show(ours, theirs);
        if (a != b)
            result.Differ(new Difference(DifferenceKind.Pools, "pools", a, b, false, false) { ReservedTags = reservedTags, NullTag = nullTag && PoolText.Same(expected, node.Pools) });
    }

    private static void CompareRequests(LineResult result, JsonElement nova, string text, ClaimRequirements claim, IReadOnlyList<NovaAlias> values)
    {
        if (!nova.TryGetProperty("requests", out JsonElement expected) || expected.ValueKind != JsonValueKind.Array)
            return;
        string theirs = string.Join("; ", expected.EnumerateArray().Select(r =>
            $"{r.GetProperty("alias").GetString()}:{(r.GetProperty("count").TryGetInt64(out long count) ? Count(count) : Count(long.MaxValue))} {r.GetProperty("numa_policy").GetString()} "
            + string.Join(" or ", r.GetProperty("spec").EnumerateArray().Select(s => string.Join(",", s.EnumerateObject()
                .Where(p => p.Name != "rp_uuids").Select(p => $"{p.Name}={p.Value}").Order(StringComparer.Ordinal))))));
        IReadOnlyList<NovaRequest> parsed = NovaRequestString.Parse(text);
        string ours = string.Join("; ", parsed.Select((r, i) =>
            $"{r.Alias}:{Count(r.Count)} {claim.PolicyOf(claim.Requests[i]).ToNova()} "
            + string.Join(" or ", values.Where(v => v.Name == r.Alias).Select(Spec))));
        if (theirs != ours)
            result.Differ(new Difference(DifferenceKind.Requests, "parsed requests", theirs, ours, false, false));
    }

    // Numbers beyond any host's devices are kept as one.
    private static string Count(long count) => count > int.MaxValue ? "many" : $"{count}";

    private static string Spec(NovaAlias v)
    {
        var parts = new List<string>();
        if (v.CapabilityType is { } capability)
            parts.Add($"capability_type={capability}");
        if (v.DeviceType is { } type)
            parts.Add($"dev_type={type.ToNova()}");
        if (v.LiveMigratable is { } live)
            parts.Add($"live_migratable={(live ? "true" : "false")}");
        if (v.ProductId is { } product)
            parts.Add($"product_id={product}");
        if (v.ResourceClass is { } resourceClass)
            parts.Add($"resource_class={resourceClass}");
        if (v.Traits is { } traits)
            parts.Add($"traits={traits}");
        if (v.VendorId is { } vendor)
            parts.Add($"vendor_id={vendor}");
        return string.Join(",", parts);
    }

    internal static string Describe(NodeVerdict verdict) => verdict switch
    {
        NodeVerdict.Served s => "served with " + string.Join(", ", s.Allocation.Devices.Select(d => $"{d.Address} for {d.Request}")),
        NodeVerdict.Refused r => "refused: " + r.Reason.Text,
        NodeVerdict.TooComplex t => "too complex: " + t.Reason.Text,
        _ => throw new InvalidOperationException("A verdict of another kind."),
    };
}

using System.Text.Json;
using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.NovaVectors;

/// <summary>One host, its specs and aliases, one request.</summary>
internal static class CaseCheck
{
    private static readonly HashSet<string> PoolKeys =
    [
        "vendor_id",
        "product_id",
        "numa_node",
        "dev_type",
        "address",
        "parent_ifname",
        "count",
        "devices",
        "rp_uuid",
    ];

    public static void Run(LineResult result, JsonElement line, JsonElement nova, JsonElement? yardstick)
    {
        result.Exact = yardstick is not null;
        Fields.Note(result, line);
        var host = VectorHost.Of(VectorHost.List(line, "devices"), VectorHost.List(line, "host_cells"));
        JsonElement specs = VectorHost.List(line, "device_specs");
        (IReadOnlyList<DeviceRule> rules, SpecFormatException? specError) = VectorHost.Rules(specs, host.Functions);
        (IReadOnlyDictionary<string, AliasDefinition> aliases, IReadOnlyList<NovaAlias> values, SpecFormatException? aliasError) =
            VectorHost.Aliases(VectorHost.List(line, "aliases"));

        var novaSpec = NovaError.Of(nova, "spec_error");
        var novaAlias = NovaError.Of(nova, "alias_error");
        var novaRequest = NovaError.Of(nova, "request_error");
        var novaApi = NovaError.Of(nova, "extra_spec_error");
        bool error = novaSpec is not null || novaAlias is not null || novaRequest is not null || novaApi is not null;

        Compare(result, DifferenceKind.Spec, "device specs", [novaSpec], specError, VectorHost.VfProductUnsaid(specs, host.Functions));
        Compare(result, DifferenceKind.Alias, "aliases", [novaAlias], aliasError);
        string text = VectorHost.Text(line, "request") ?? throw new InvalidDataException("the case has no request");
        (Question? question, SpecFormatException? requestError) = Ask(line, aliases, host.Cells);
        // Where the aliases are bad, or Nova's Placement can't take them, all requests fail with the same words; what else Nova would have
        // named is not known.
        bool sameAsAlias = novaAlias is not null && novaRequest?.Message == novaAlias.Message;
        if (aliasError is null && !(sameAsAlias && (novaApi is null || requestError is not null)))
            Compare(result, DifferenceKind.Request, $"request '{text}'", sameAsAlias ? [novaApi] : [novaRequest, novaApi], requestError);
        if (result.Failed || error || specError is not null || aliasError is not null || question is null)
            return;

        result.Placed = question.Names.Count > 0 || line.TryGetProperty("instance_numa_nodes", out _);
        IReadOnlyDictionary<PciAddress, DeviceRule> matched = DeviceMatcher.Match(host.Functions, rules);
        NodeInventory node = host.ToNode(matched);
        IReadOnlyDictionary<PciAddress, string> providers = Providers.Of(line, nova, node, question.Names);
        NodeVerdict verdict = question.Decide(node, providers, out string? fault);
        string said = question.Describe(verdict);
        if (verdict is NodeVerdict.TooComplex)
            result.Fail("verdict", "", said, "nothing in these files is too complex to decide");
        if (fault is not null)
            result.Fail("allocation", "", said, fault);
        if (yardstick is { } exact)
        {
            bool feasible = exact.GetProperty("feasible").GetBoolean();
            if (feasible != verdict is NodeVerdict.Served)
            {
                result.Fail(
                    "verdict",
                    feasible ? "an assignment exists" : "no assignment exists",
                    said,
                    $"request '{text}' must be {(feasible ? "served" : "refused")}"
                );
            }
        }
        else
        {
            CompareVerdict(result, nova, node, providers, question, values, host.Sockets, verdict, fault);
        }

        CompareFit(result, nova, node, providers, question);
        if (yardstick is not null && question.Names.Count == 0)
            return;
        CompareMatches(result, line, nova, matched);
        ComparePools(result, nova, node, ReservedTags(specs), NullTag(specs));
        CompareRequests(result, nova, question, values);
    }

    private static (Question? Question, SpecFormatException? Error) Ask(
        JsonElement line,
        IReadOnlyDictionary<string, AliasDefinition> aliases,
        IReadOnlyList<int> cells
    )
    {
        try
        {
            return (Question.Of(line, "instance", aliases, cells), null);
        }
        catch (SpecFormatException e)
        {
            return (null, e);
        }
    }

    // Without a line of the yardstick: what Nova serves must be served; what it does not, its own way through its pools must explain.
    private static void CompareVerdict(
        LineResult result,
        JsonElement nova,
        NodeInventory node,
        IReadOnlyDictionary<PciAddress, string> providers,
        Question question,
        IReadOnlyList<NovaAlias> values,
        IReadOnlyDictionary<int, int?> sockets,
        NodeVerdict verdict,
        string? fault
    )
    {
        if (
            !nova.TryGetProperty("supported", out JsonElement supported)
            || supported.ValueKind is not (JsonValueKind.True or JsonValueKind.False)
        )
        {
            return;
        }

        bool failed =
            nova.TryGetProperty("consume", out JsonElement consume)
            && consume.ValueKind == JsonValueKind.Object
            && consume.TryGetProperty("ok", out JsonElement ok)
            && ok.ValueKind == JsonValueKind.False;
        bool served = supported.GetBoolean() && !failed;
        if (served == verdict is NodeVerdict.Served)
            return;
        if (served)
        {
            result.Fail("verdict", "served", question.Describe(verdict), "what Nova serves soundly must be served");
            return;
        }

        // Where its pools and states are not in the answer, they can't explain it.
        bool explained =
            nova.TryGetProperty("pools", out JsonElement pools)
            && pools.ValueKind == JsonValueKind.Array
            && NovaGreedy.Of(pools, question, values, sockets) is var ways
            && (failed ? ways.Any(w => w.Supported() && w.Consumed(ParentsOf(node)) is null) : !ways.Any(w => w.Supported()));
        result.Differ(
            new Difference(
                DifferenceKind.Verdict,
                "verdict",
                failed ? "its claim fails" : "refused",
                question.Describe(verdict),
                false,
                true
            )
            {
                Sound = fault is null && explained,
            }
        );
    }

    private static Dictionary<string, string> ParentsOf(NodeInventory node) =>
        node
            .Devices.Where(d => d.Function is { IsVirtual: true, ParentAddress: not null })
            .ToDictionary(d => d.Function.Address.ToString(), d => d.Function.ParentAddress!.Value.ToString());

    // The host's nodes that Nova found for the guest's: the same claim must be served there.
    private static void CompareFit(
        LineResult result,
        JsonElement nova,
        NodeInventory node,
        IReadOnlyDictionary<PciAddress, string> providers,
        Question question
    )
    {
        if (
            !nova.TryGetProperty("numa_fit", out JsonElement fit)
            || fit.ValueKind != JsonValueKind.Array
            || !nova.TryGetProperty("consume", out JsonElement consume)
            || consume.ValueKind != JsonValueKind.Object
            || !consume.GetProperty("ok").GetBoolean()
        )
        {
            return;
        }

        int[] cells = [.. fit.EnumerateArray().Select(c => c.GetInt32())];
        string on = string.Join(",", cells);
        NodeVerdict there = question.On(cells).Decide(node, providers, out string? fault);
        if (!question.Places.Contains(GuestNuma.On(cells)))
        {
            result.Fail(
                "the guest's NUMA nodes",
                on,
                string.Join(" or ", question.Places.Select(p => p.ToString())),
                "Nova's are none of those that are tried here"
            );
        }

        if (there is not NodeVerdict.Served || fault is not null)
            result.Fail("the guest's NUMA nodes", on, CaseCheck.Describe(there), fault ?? "what Nova serves soundly must be served");
    }

    // Both accept, or both refuse over the same field.
    internal static void Compare(
        LineResult result,
        DifferenceKind kind,
        string what,
        NovaError?[] nova,
        SpecFormatException? ours,
        bool vfProductUnsaid = false
    )
    {
        NovaError[] errors = [.. nova.OfType<NovaError>()];
        if (errors.Length == 0 ? ours is null : ours is not null && errors.Any(e => e.IsAbout(ours.Field)))
            return;
        result.Differ(
            new Difference(
                kind,
                what,
                errors.Length == 0 ? "accepted" : string.Join(" / ", errors.Select(e => e.ToString())),
                ours is null ? "accepted" : $"{ours.Field}: {ours.Message}",
                ours is not null,
                errors.Length > 0
            )
            {
                VfProductUnsaid = vfProductUnsaid,
            }
        );
    }

    private static void CompareMatches(
        LineResult result,
        JsonElement line,
        JsonElement nova,
        IReadOnlyDictionary<PciAddress, DeviceRule> matched
    )
    {
        if (!nova.TryGetProperty("matched", out JsonElement expected) || expected.ValueKind != JsonValueKind.Object)
            return;
        foreach (JsonProperty p in expected.EnumerateObject())
        {
            string theirs = p.Value.ValueKind == JsonValueKind.Number ? p.Value.GetInt32().ToString() : "none";
            string ours =
                PciAddress.TryParse(p.Name, out PciAddress a) && matched.TryGetValue(a, out DeviceRule? rule) ? rule.Name : "none";
            if (theirs != ours)
                result.Fail($"the spec that {p.Name} matches", theirs, ours, $"specs: {line.GetProperty("device_specs").GetRawText()}");
        }
    }

    private static bool ReservedTags(JsonElement specs) =>
        specs
            .EnumerateArray()
            .Any(s =>
                s.ValueKind == JsonValueKind.Object
                && s.EnumerateObject().Any(p => PoolKeys.Contains(p.Name) && p.Name is not ("vendor_id" or "product_id" or "address"))
            );

    private static bool NullTag(JsonElement specs) =>
        specs
            .EnumerateArray()
            .Any(s =>
                s.ValueKind == JsonValueKind.Object
                && s.EnumerateObject().Any(p => p.Value.ValueKind == JsonValueKind.Null && p.Name is not ("address" or "devname"))
            );

    private static void ComparePools(LineResult result, JsonElement nova, NodeInventory node, bool reservedTags, bool nullTag)
    {
        if (!nova.TryGetProperty("pools", out JsonElement expected) || expected.ValueKind != JsonValueKind.Array)
            return;
        SortedDictionary<string, SortedSet<string>> theirs = PoolText.Of(expected);
        SortedDictionary<string, SortedSet<string>> ours = PoolText.Of(node.Pools);
        string a = PoolText.Show(theirs, ours);
        string b = PoolText.Show(ours, theirs);
        if (a != b)
        {
            result.Differ(
                new Difference(DifferenceKind.Pools, "pools", a, b, false, false)
                {
                    ReservedTags = reservedTags,
                    NullTag = nullTag && PoolText.Same(expected, node.Pools),
                }
            );
        }
    }

    private static void CompareRequests(LineResult result, JsonElement nova, Question question, IReadOnlyList<NovaAlias> values)
    {
        if (!nova.TryGetProperty("requests", out JsonElement expected) || expected.ValueKind != JsonValueKind.Array)
            return;
        string theirs = string.Join(
            "; ",
            expected
                .EnumerateArray()
                .Select(r =>
                    $"{r.GetProperty("alias").GetString()}:{(r.GetProperty("count").TryGetInt64(out long count) ? Count(count) : Count(long.MaxValue))} {r.GetProperty("numa_policy").GetString()} "
                    + string.Join(
                        " or ",
                        r.GetProperty("spec")
                            .EnumerateArray()
                            .Select(s =>
                                string.Join(",", s.EnumerateObject().Select(p => $"{p.Name}={p.Value}").Order(StringComparer.Ordinal))
                            )
                    )
                )
        );
        string ours = string.Join(
            "; ",
            question.Parsed.Select(
                (r, i) =>
                    $"{r.Alias}:{Count(r.Count)} {question.Claim.PolicyOf(question.Claim.Requests[i]).ToNova()} "
                    + string.Join(" or ", values.Where(v => v.Name == r.Alias).Select(v => Spec(v, question.ProvidersOf(i))))
            )
        );
        if (theirs != ours)
            result.Differ(new Difference(DifferenceKind.Requests, "parsed requests", theirs, ours, false, false));
    }

    // Numbers beyond any host's devices are kept as one.
    private static string Count(long count) => count > int.MaxValue ? "many" : $"{count}";

    private static string Spec(NovaAlias v, IReadOnlyList<string>? providers)
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
        if (providers is not null)
            parts.Add($"rp_uuids={string.Join(',', providers)}");
        if (v.Traits is { } traits)
            parts.Add($"traits={traits}");
        if (v.VendorId is { } vendor)
            parts.Add($"vendor_id={vendor}");
        return string.Join(",", parts);
    }

    internal static string Describe(NodeVerdict verdict) =>
        verdict switch
        {
            NodeVerdict.Served s => "served with " + string.Join(", ", s.Allocation.Devices.Select(d => $"{d.Address} for {d.Request}")),
            NodeVerdict.Refused r => "refused: " + r.Reason.Text,
            NodeVerdict.TooComplex t => "too complex: " + t.Reason.Text,
            _ => throw new InvalidOperationException("A verdict of another kind."),
        };
}

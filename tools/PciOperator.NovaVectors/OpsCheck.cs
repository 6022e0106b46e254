using System.Text.Json;
using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.NovaVectors;

/// <summary>
/// A sequence of claims, frees, rescans and restarts. Which of several equal devices is taken is free, so where Nova takes
/// some, the same are taken here, if they may be; then states and owners must be the same.
/// </summary>
internal static class OpsCheck
{
    public static void Run(LineResult result, JsonElement line, JsonElement nova)
    {
        Fields.Note(result, line);
        bool mutates = line.TryGetProperty("mutates", out JsonElement changes) && changes.ValueKind == JsonValueKind.True;
        var host = VectorHost.Of(VectorHost.List(line, "devices"), VectorHost.List(line, "host_cells"));
        List<PciFunction> functions = [.. host.Functions];
        JsonElement specs = VectorHost.List(line, "device_specs");
        (IReadOnlyList<DeviceRule> rules, SpecFormatException? specError) = VectorHost.Rules(specs, functions);
        var novaSpec = NovaError.Of(nova, "spec_error");
        CaseCheck.Compare(result, DifferenceKind.Spec, "device specs", [novaSpec], specError, VectorHost.VfProductUnsaid(specs, functions));
        if (novaSpec is not null || specError is not null)
            return;
        (IReadOnlyDictionary<string, AliasDefinition> aliases, IReadOnlyList<NovaAlias> values, SpecFormatException? aliasError) =
            VectorHost.Aliases(VectorHost.List(line, "aliases"));
        var instances = new Instances(nova);
        var ledger = new DeviceLedger();
        ledger.Sync(functions, rules);
        JsonElement[] steps = [.. nova.GetProperty("steps").EnumerateArray()];
        var overwritten = new HashSet<string>();
        var parentOf = new Dictionary<string, string>();
        NoteParents();
        int at = 0;
        foreach (JsonElement op in VectorHost.List(line, "ops").EnumerateArray())
        {
            if (at >= steps.Length)
                break;
            JsonElement? before = at > 0 ? steps[at - 1] : null;
            JsonElement step = steps[at++];
            HashSet<string>? excused = null;
            string kind = op.GetProperty("op").GetString()!;
            string what = $"step {at}, {kind}";
            if (Fields.Misplaced(op) is { } field)
                result.Fail(what, "", field, $"{field} says nothing to a {kind} here");
            string? owner = instances.Of(op);
            if (owner is null && kind is not ("rescan" or "restart"))
            {
                result.Fail(what, "", "", "it names no instance");
                return;
            }

            if (
                owner is not null
                && kind.StartsWith("claim", StringComparison.Ordinal)
                && TakenBy(step) is not null
                && ledger.DevicesOf(owner).Any(a => ledger.StateOf(a) == DeviceState.Claimed)
            )
            {
                overwritten.Add(owner);
            }

            switch (kind)
            {
                case "claim" or "claim+allocate":
                    Question? question = null;
                    SpecFormatException? requestError = null;
                    try
                    {
                        question = aliasError is null ? Question.Of(op, owner!, aliases, host.Cells) : null;
                    }
                    catch (SpecFormatException e)
                    {
                        requestError = e;
                    }

                    NovaClaim? said =
                        mutates || question is null
                            ? null
                            : NovaClaim.Of(question, step, before, values, parentOf, IsNamed(), host.Sockets);
                    excused = said?.Touched;
                    // An instance's earlier claim stays a claim when this one is refused.
                    if (
                        Claim(
                            result,
                            what,
                            line,
                            step,
                            before,
                            ledger,
                            question,
                            aliasError,
                            requestError,
                            host.Sockets,
                            owner!,
                            mutates,
                            said
                        )
                        && kind == "claim+allocate"
                    )
                    {
                        ledger.Allocate(owner!);
                    }

                    break;
                case "allocate":
                    ledger.Allocate(owner!);
                    break;
                case "free":
                    ledger.Free(owner!);
                    break;
                case "rescan":
                    excused = Look(VectorHost.Of(VectorHost.List(op, "devices")), step, before);
                    ledger.Sync(functions, rules);
                    break;
                case "restart":
                    // What Nova did before it was stopped halfway at its first look at a host with other devices is no answer to the specs.
                    NovaError? novaError = NovaError.Of(step, "error") is { } e1 && !IsRaisedHalfWay(e1) ? e1 : null;
                    if (Has(op, "host_cells"))
                        host = VectorHost.Of(VectorHost.List(line, "devices"), VectorHost.List(op, "host_cells"));
                    if (Has(op, "devices"))
                        excused = Look(VectorHost.Of(VectorHost.List(op, "devices")), step, before);
                    if (Has(op, "aliases"))
                        (aliases, values, aliasError) = VectorHost.Aliases(VectorHost.List(op, "aliases"));
                    // Without new ones, the old specs are read again, on the host as it is now.
                    if (Has(op, "device_specs"))
                        specs = VectorHost.List(op, "device_specs");
                    (rules, SpecFormatException? error) = VectorHost.Rules(specs, functions);
                    CaseCheck.Compare(result, DifferenceKind.Spec, what, [novaError], error, VectorHost.VfProductUnsaid(specs, functions));
                    if (novaError is not null || error is not null)
                        return;
                    ledger.Sync(functions, rules, atStart: true);
                    ledger.Forget();
                    break;
                default:
                    result.Fail(what, kind, "", "an operation of an unknown kind");
                    return;
            }

            if (Invariant(ledger, host.Sockets) is { } broken)
                result.Fail(what, "", broken, "an invariant does not hold");
            if (!mutates && NovaError.Of(step, "error") is { } raised && IsRaisedHalfWay(raised))
            {
                result.Differ(
                    new Difference(
                        DifferenceKind.State,
                        what,
                        raised.ToString(),
                        "a claim or rescan is done whole or not at all",
                        false,
                        true
                    )
                    {
                        RaisedHalfWay = excused is not null,
                    }
                );
                // What the error does not explain is still compared.
                if (excused is not null)
                    CompareStates(result, what, step, ledger, parentOf, overwritten, excused);
                mutates = true;
            }

            if (!mutates)
                CompareStates(result, what, step, ledger, parentOf, overwritten, []);
            ledger.Forget();
        }

        if (at != steps.Length)
            result.Fail("steps", $"{steps.Length} steps", $"{at} operations", "each operation has one answer");

        // The host shows other devices now. Returns what is gone or new, and its relatives: where Nova's tracker stops, it does so
        // somewhere among them.
        HashSet<string>? Look(List<PciFunction> shown, JsonElement step, JsonElement? before)
        {
            HashSet<string> changed = [.. functions.Select(f => f.Address.ToString())];
            functions = shown;
            host.NoteNodes(functions);
            changed.SymmetricExceptWith(functions.Select(f => f.Address.ToString()));
            NoteParents();
            // It does when a device to be removed is in none of its pools, or when its pool is looked up by a netdev that is gone with it.
            return
                !IsNamed()
                && NovaError.Of(step, "error") is { Class: "PciDevicePoolEmpty" } empty
                && before is { } last
                && changed.FirstOrDefault(a => empty.Message.Contains(a, StringComparison.Ordinal)) is { } lost
                && last.GetProperty("pools")
                    .EnumerateArray()
                    .Any(p => p.GetProperty("devices").EnumerateArray().Any(d => d.GetString() == lost))
                ? null
                : changed;
        }

        // Whether a pool may have to be looked up by a netdev that is gone.
        bool IsNamed() => rules.Any(r => r.Selectors.Any(s => s.DeviceName is not null));

        // The PF of each VF that was ever there: one in use is kept when it is gone.
        void NoteParents()
        {
            foreach (PciFunction f in functions.Where(f => f is { IsVirtual: true, ParentAddress: not null }))
                parentOf[f.Address.ToString()] = f.ParentAddress!.Value.ToString();
        }
    }

    private static bool Has(JsonElement op, string field) =>
        op.TryGetProperty(field, out JsonElement value) && value.ValueKind == JsonValueKind.Array;

    // Whether devices were claimed.
    private static bool Claim(
        LineResult result,
        string what,
        JsonElement line,
        JsonElement step,
        JsonElement? before,
        DeviceLedger ledger,
        Question? question,
        SpecFormatException? aliasError,
        SpecFormatException? requestError,
        IReadOnlyDictionary<int, int?> sockets,
        string owner,
        bool mutates,
        NovaClaim? said
    )
    {
        var error = NovaError.Of(step, "error");
        if (aliasError is not null || error is { Class: "PciInvalidAlias" })
        {
            if (aliasError is null || error is null || !error.IsAbout(aliasError.Field))
            {
                result.Differ(
                    new Difference(
                        DifferenceKind.Alias,
                        what,
                        error?.ToString() ?? "accepted",
                        aliasError is null ? "accepted" : $"{aliasError.Field}: {aliasError.Message}",
                        aliasError is not null,
                        error is not null
                    )
                );
            }

            return false;
        }

        if (question is null)
        {
            CaseCheck.Compare(result, DifferenceKind.Request, what, [error], requestError);
            return false;
        }

        NodeInventory node = ledger.ToInventory("host", sockets);
        NodeVerdict verdict = question.Decide(node, Providers.Of(line, before ?? step, node, question.Names), out string? fault);
        NodeAllocation? ours = (verdict as NodeVerdict.Served)?.Allocation;
        if (fault is not null)
            result.Fail(what, "", CaseCheck.Describe(verdict), fault);
        PciAddress[]? taken = TakenBy(step);
        if (mutates)
        {
            // Nova's own choice may be of a device that has changed; only ours counts.
            if (ours is not null)
                ledger.Claim(owner, [.. ours.Devices.Select(d => d.Address)]);
            return ours is not null;
        }

        if (taken is { Length: 0 })
        {
            result.Differ(
                new Difference(DifferenceKind.Verdict, what, "served with nothing", CaseCheck.Describe(verdict), ours is null, false)
                {
                    ServedNothing = true,
                }
            );
            return false;
        }

        if (taken is null)
        {
            if (ours is not null)
            {
                result.Differ(
                    new Difference(DifferenceKind.Verdict, what, error?.ToString() ?? "refused", CaseCheck.Describe(verdict), false, true)
                    {
                        Sound = fault is null && said is { Explained: true },
                    }
                );
            }

            return false;
        }

        if (ours is null)
        {
            result.Fail(
                what,
                "served with " + string.Join(", ", taken),
                CaseCheck.Describe(verdict),
                "what Nova serves soundly must be served"
            );
        }

        try
        {
            ledger.Claim(owner, taken);
            return true;
        }
        catch (DeviceStateException e)
        {
            result.Fail(what, "served with " + string.Join(", ", taken), e.Message, "the device that Nova gives away is not free here");
            return false;
        }
    }

    private static PciAddress[]? TakenBy(JsonElement step) =>
        step.TryGetProperty("devices", out JsonElement devices) && devices.ValueKind == JsonValueKind.Array
            ? [.. devices.EnumerateArray().Select(d => PciAddress.Parse(d.GetString()!))]
            : null;

    // Nova's tracker stops in the middle of its work: what it holds from here on is not its own rules' answer any more.
    private static bool IsRaisedHalfWay(NovaError error) =>
        error.Class
            is "PciDeviceVFInvalidStatus"
                or "PciDevicePFInvalidStatus"
                or "PciDeviceInvalidStatus"
                or "PciDevicePoolEmpty"
                or "PciDeviceInvalidOwner";

    // excused: devices that an error of Nova's, explained already, left in between, with their relatives.
    private static void CompareStates(
        LineResult result,
        string what,
        JsonElement step,
        DeviceLedger ledger,
        IReadOnlyDictionary<string, string> parentOf,
        HashSet<string> overwritten,
        HashSet<string> excused
    )
    {
        var theirs = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (JsonProperty p in step.GetProperty("states").EnumerateObject())
            theirs[p.Name] = $"{p.Value[0].GetString()} {p.Value[1]}".TrimEnd();
        var ours = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (PciAddress a in ledger.Addresses)
            ours[a.ToString()] = $"{ledger.StateOf(a).ToNova()} {ledger.OwnerOf(a)}".TrimEnd();
        var a1 = new List<string>();
        var b1 = new List<string>();
        bool dependent = true;
        bool lost = true;
        bool claims = false;
        foreach (string address in theirs.Keys.Union(ours.Keys))
        {
            string t = theirs.GetValueOrDefault(address, "not there");
            string o = ours.GetValueOrDefault(address, "not there");
            // What is removed is gone when it is saved, which a start does.
            if (t == o || excused.Contains(address) || (t == "removed" && o == "not there" && VectorHost.Text(step, "op") == "restart"))
                continue;
            a1.Add($"{address} {t}");
            b1.Add($"{address} {o}");
            // Nobody's either way, and ours is what its relatives' owners, by Nova's own states, mean for it.
            bool nobodys = t is "available" or "unclaimable" or "unavailable" && o is "available" or "unclaimable" or "unavailable";
            dependent &= nobodys && o == Meant(address);
            // After a restart Nova has the lost claim again, so that the instance's next allocation is of that one.
            bool first = t.Split(' ') is ["claimed" or "allocated", var holder] && overwritten.Contains(holder);
            lost &= nobodys || first;
            claims |= first;
        }

        if (a1.Count == 0)
            return;
        result.Differ(
            new Difference(DifferenceKind.State, what, string.Join(", ", a1), string.Join(", ", b1), false, false)
            {
                Sound = dependent,
                ClaimLost = lost && claims,
            }
        );

        string Meant(string address)
        {
            string[] relatives =
            [
                .. theirs
                    .Where(p => parentOf.GetValueOrDefault(p.Key) == address || parentOf.GetValueOrDefault(address) == p.Key)
                    .Select(p => p.Value),
            ];
            return relatives.Any(r => r.StartsWith("allocated ", StringComparison.Ordinal)) ? "unavailable"
                : relatives.Any(r => r.StartsWith("claimed ", StringComparison.Ordinal)) ? "unclaimable"
                : "available";
        }
    }

    // One owner a device (by how it is kept), and never a PF and a VF of it both with an owner.
    private static string? Invariant(DeviceLedger ledger, IReadOnlyDictionary<int, int?> sockets)
    {
        NodeInventory node = ledger.ToInventory("host", sockets);
        foreach (
            NodeDevice vf in node.Devices.Where(d => d.Owner is not null && d.Function is { IsVirtual: true, ParentAddress: not null })
        )
        {
            if (node.Find(vf.Function.ParentAddress!.Value) is { Owner: not null } pf)
                return $"{pf.Function.Address} and its VF {vf.Function.Address} both have an owner";
        }

        foreach (NodeDevice d in node.Devices)
        {
            bool free = ledger.StateOf(d.Function.Address) == DeviceState.Available;
            if (free != node.WhyNotOffered(d.Function.Address) is null)
                return $"{d.Function.Address} is {ledger.StateOf(d.Function.Address).ToNova()} and {(free ? "not " : "")}offered";
        }

        return null;
    }
}

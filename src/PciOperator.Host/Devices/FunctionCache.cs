using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>What was seen of the functions last, so that a uevent costs a look at what it concerns and not at the whole bus.</summary>
internal sealed class FunctionCache(IHostFileSystem files, TimeProvider time)
{
    // One look after the other: a slow one must not put what it saw in the place of what a later one saw.
    private readonly Lock _seeing = new();
    private readonly Inventory _inventory = new(files);
    private readonly DeviceHealth _health = new(files, time);
    private IReadOnlyList<HostFunction>? _seen;
    private HashSet<PciAddress> _passedOver = [];
    private HashSet<JournalEntry> _seenSettled = new(ReferenceEqualityComparer.Instance);

    /// <summary>
    /// The functions with their health; with <paramref name="heard"/>, only what that concerns is read; what is locked is as it was.
    /// </summary>
    public List<HostFunction> See(
        IReadOnlyCollection<Uevent>? heard,
        List<JournalEntry> settled,
        HostUse use,
        Func<PciAddress, bool> isHeld,
        IReadOnlySet<PciAddress> locked,
        bool fresh,
        List<string> problems
    )
    {
        lock (_seeing)
        {
            ScanScope? scope = heard is null || _seen is null ? null : ScanScope.Of(heard, _seen);

            // What a claim has come to hold since: the uevents of that may still be on their way.
            scope?.Touched.UnionWith(_passedOver);
            scope?.Touched.UnionWith(settled.Where(e => !_seenSettled.Contains(e)).SelectMany(e => e.Devices).Select(d => d.Address));
            List<HostFunction> functions = scope is null
                ? _health.Look(_inventory.ReadAll(use, fresh, problems, _seen, locked), isHeld)
                : _health.Look(_inventory.ReadAgain(_seen!, scope, use, problems, locked), isHeld, scope.Touched);
            _seenSettled = new HashSet<JournalEntry>(settled, ReferenceEqualityComparer.Instance);
            _seen = functions;

            // Shown as they were: to be read when the work on them has ended, whatever is heard of them.
            _passedOver =
            [
                .. functions
                    .Where(f => locked.Contains(f.Address) || (f.Function.ParentAddress is { } pf && locked.Contains(pf)))
                    .Select(f => f.Address),
            ];
            return functions;
        }
    }
}

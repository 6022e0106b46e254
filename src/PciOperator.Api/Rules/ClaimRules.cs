using System.Text.RegularExpressions;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

public sealed partial record PassthroughClaim : IHasCelRules<PassthroughClaim>
{
    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<PassthroughClaim>> Rules { get; } =
    [
        new(
            "!has(self.spec.coLocateWith) || !has(self.metadata.name) || !(self.metadata.name in self.spec.coLocateWith)",
            "a claim is always on one node with itself: name the other claims",
            c => c.Spec.CoLocateWith is not { } others || c.Metadata.Name is not { } name || !others.Contains(name)
        )
        {
            FieldPath = ".spec.coLocateWith",
        },
    ];
}

public sealed partial record PassthroughClaimSpec : IHasCelRules<PassthroughClaimSpec>
{
    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<PassthroughClaimSpec>> Rules { get; } =
    [
        new(
            "self == oldSelf",
            "a claim's spec can't be changed: delete the claim and make a new one",
            (self, old) => old is null || self.AsksTheSameAs(old)
        ),
        new(
            "self.requests.all(r, self.requests.exists_one(other, other.name == r.name))",
            "every request of a claim needs a name of its own; to get more devices of one alias, raise the request's count",
            s => s.Requests.DistinctBy(r => r.Name).Count() == s.Requests.Count
        )
        {
            FieldPath = ".requests",
        },
        new(
            "self.requests.all(r, self.requests.all(other, !r.name.startsWith(other.name + '-') || !r.name.substring(size(other.name) + 1).matches('^([0-9]+|([0-9]+-)?companion-[0-9]+)$')))",
            "a request can't be named as the devices of another are: beside a request gpu there is no gpu-0 and no gpu-companion-0",
            s => s.Requests.All(r => s.Requests.All(other => !IsNamedAsDeviceOf(r.Name, other.Name)))
        )
        {
            FieldPath = ".requests",
        },
        new(
            "!(has(self.numaNodes) && has(self.guestNuma))",
            "give numaNodes, where the guest's CPUs and memory sit, or guestNuma none for a guest without NUMA, not both",
            s => s.NumaNodes is null || s.GuestNuma is null
        ),
        new(
            "!has(self.delivery) || self.delivery != 'DevicePlugin' || !has(self.bindingMode) || self.bindingMode != 'WaitForFirstConsumer'",
            "bindingMode WaitForFirstConsumer needs delivery DRA: kube-scheduler can't choose among nodes by an extended resource that exists on one of them only",
            s => s.Delivery != Api.Delivery.DevicePlugin || s.BindingMode != BindingMode.WaitForFirstConsumer
        ),
        new(
            "!(has(self.nodeName) && has(self.nodeSelector))",
            "give nodeName for one node, or nodeSelector for any node with these labels, not both",
            s => s.NodeName is null || s.NodeSelector is null
        ),
        FieldRule.Matches<PassthroughClaimSpec>(
            "nodeName",
            s => s.NodeName,
            FieldRule.DnsSubdomain,
            "nodeName is the name of one node, such as worker-3; labels go into nodeSelector"
        ),
        FieldRule.Matches<PassthroughClaimSpec>(
            "priorityClassName",
            s => s.PriorityClassName,
            FieldRule.DnsSubdomain,
            "priorityClassName is a PriorityClass' name, as kubectl get priorityclasses shows them; its number is in the class"
        ),
        new(
            "!has(self.priorityClassName) || !self.priorityClassName.startsWith('system-')",
            "the PriorityClasses system-… are for what keeps a cluster alive, not for claims: name another, or none",
            s => s.PriorityClassName?.StartsWith("system-", StringComparison.Ordinal) != true
        )
        {
            FieldPath = ".priorityClassName",
        },
        FieldRule.Labels<PassthroughClaimSpec>("nodeSelector", s => s.NodeSelector),
        FieldRule.AllMatch<PassthroughClaimSpec>(
            "coLocateWith",
            s => s.CoLocateWith,
            FieldRule.DnsSubdomain,
            "coLocateWith holds names of PassthroughClaims of the same namespace, without the namespace"
        ),
    ];

    private static readonly Regex DeviceEnding = FieldRule.Compile("^([0-9]+|([0-9]+-)?companion-[0-9]+)$");

    private static bool IsNamedAsDeviceOf(string name, string other) =>
        name.StartsWith(other + "-", StringComparison.Ordinal) && DeviceEnding.IsMatch(name[(other.Length + 1)..]);

    // As CEL compares: lists that are maps or sets have no order.
    private bool AsksTheSameAs(PassthroughClaimSpec other) =>
        Same(Requests.OrderBy(r => r.Name, StringComparer.Ordinal), other.Requests.OrderBy(r => r.Name, StringComparer.Ordinal))
        && NumaPolicy == other.NumaPolicy
        && Same(NumaNodes?.Order(), other.NumaNodes?.Order())
        && GuestNuma == other.GuestNuma
        && NodeName == other.NodeName
        && Same(NodeSelector?.OrderBy(l => l.Key, StringComparer.Ordinal), other.NodeSelector?.OrderBy(l => l.Key, StringComparer.Ordinal))
        && Same(Tolerations, other.Tolerations)
        && Same(CoLocateWith?.Order(StringComparer.Ordinal), other.CoLocateWith?.Order(StringComparer.Ordinal))
        && BindingMode == other.BindingMode
        && PriorityClassName == other.PriorityClassName
        && Delivery == other.Delivery;

    private static bool Same<T>(IEnumerable<T>? one, IEnumerable<T>? other) =>
        one is null || other is null ? one is null && other is null : one.SequenceEqual(other);
}

public sealed partial record ClaimRequest : IHasCelRules<ClaimRequest>
{
    private static readonly Regex ObjectName = FieldRule.Compile(FieldRule.DnsSubdomain);

    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<ClaimRequest>> Rules { get; } =
    [
        FieldRule.Matches<ClaimRequest>(
            "name",
            r => r.Name,
            "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            "a request's name is lower-case letters, digits and '-', and begins and ends with a letter or digit, such as gpu"
        ),
        new(
            "!self.alias.contains(':') && !self.alias.contains(',')",
            "alias is one PciAlias' name: Nova's a1:2,a2:1 is two requests here, one with alias a1 and count 2, one with alias a2 and count 1",
            r => !r.Alias.Contains(':') && !r.Alias.Contains(',')
        )
        {
            FieldPath = ".alias",
        },
        new(
            $"self.alias.contains(':') || self.alias.contains(',') || self.alias.matches(r'{FieldRule.DnsSubdomain}')",
            "alias is a PciAlias' name: lower-case letters, digits, '-' and '.', such as nv2080",
            r => r.Alias.Contains(':') || r.Alias.Contains(',') || ObjectName.IsMatch(r.Alias)
        )
        {
            FieldPath = ".alias",
        },
    ];
}

public sealed partial record ClaimToleration : IHasCelRules<ClaimToleration>
{
    /// <inheritdoc/>
    public static IReadOnlyList<CelRule<ClaimToleration>> Rules { get; } =
    [
        new(
            "!(has(self.operator) && self.operator == 'Exists' && has(self.value) && self.value != '')",
            "operator Exists takes every value: leave value out, or use operator Equal",
            t => t is not { Operator: TolerationOperator.Exists, Value.Length: > 0 }
        )
        {
            FieldPath = ".value",
        },
        new(
            "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
            "a toleration without a key is for every taint, and needs operator Exists",
            t => t is { Key.Length: > 0 } or { Operator: TolerationOperator.Exists }
        ),
    ];
}

namespace PciOperator.Core;

public static partial class Allocator
{
    /// <summary>Plain search over units and devices.</summary>
    private sealed class Search
    {
        private readonly NodeInventory node;
        private readonly ClaimRequirements claim;
        private readonly DeviceRequest[] requests;
        private readonly NodeDevice[] devices;
        private readonly Dictionary<PciAddress, string> taken = [];
        private int guestNode;
        private int? guestSocket;

        public Search(NodeInventory node, ClaimRequirements claim)
        {
            this.node = node;
            this.claim = claim;
            requests = [.. claim.Requests.OrderBy(r => r.Name, StringComparer.Ordinal)];
            devices = [.. node.Devices.Where(d => node.WhyNotOffered(d.Function.Address) is null
                && !claim.Excluded.Contains(new DeviceExclusion(node.Name, d.Function.Address)))];
        }

        public NodeVerdict Run()
        {
            if (requests.Length == 0 || requests.Any(r => r.Count < 1))
                return new NodeVerdict.Refused(new(RefusalCodes.InvalidClaim, "can't serve a claim without requests, or with a count below 1"));
            foreach (DeviceRequest request in requests)
            {
                if (!node.Devices.Any(d => d.Tags is not null && AliasMatch.Matches(request.Alias, d.Function, d.Tags)))
                    return new NodeVerdict.Refused(new(RefusalCodes.NoDevice, $"have no device of alias {request.Alias.Name}"));
                int free = devices.Count(d => AliasMatch.Matches(request.Alias, d.Function, d.Tags!));
                if (free < request.Count)
                    return new NodeVerdict.Refused(new(RefusalCodes.TooFewFree, $"have too few free ({free} of {request.Count})"));
            }
            bool prefers = claim.GuestNuma.Kind != GuestNumaKind.None && requests.Any(r => claim.PolicyOf(r) == NumaPolicy.Preferred);
            foreach (bool strict in prefers ? new[] { true, false } : [false])
            {
                foreach ((int? n, int? socket) in Places(strict))
                {
                    (guestNode, guestSocket) = (n ?? -1, socket);
                    if (Assign(0, 0, 0, strict))
                        return new NodeVerdict.Served(Result(prefers ? strict : null));
                }
            }
            NumaPolicy? policy = requests.Select(claim.PolicyOf).Cast<NumaPolicy?>().FirstOrDefault(p => p != NumaPolicy.Preferred);
            return policy is not null && claim.GuestNuma.Kind != GuestNumaKind.None
                ? new NodeVerdict.Refused(new(RefusalCodes.NumaPolicy, $"fail NUMA policy {policy.Value.ToNova()}"))
                : new NodeVerdict.Refused(new(RefusalCodes.Conflict, "can serve each request but not all together"));
        }

        // For a guest whose place is not known: the NUMA nodes and sockets that the devices could put it on.
        private IEnumerable<(int? Node, int? Socket)> Places(bool strict)
        {
            bool one = requests.Any(r => claim.PolicyOf(r) == NumaPolicy.Required || (strict && claim.PolicyOf(r) == NumaPolicy.Preferred));
            bool socket = requests.Any(r => claim.PolicyOf(r) == NumaPolicy.Socket);
            if (claim.GuestNuma.Kind != GuestNumaKind.Unknown || (!one && !socket))
                return [(null, null)];
            return node.Sockets.OrderBy(p => p.Key).Select(p => ((int?)p.Key, p.Value));
        }

        private bool Allowed(DeviceRequest request, NodeDevice d, bool strict)
        {
            if (!AliasMatch.Matches(request.Alias, d.Function, d.Tags!))
                return false;
            int? numa = d.Function.NumaNode;
            NumaPolicy policy = claim.PolicyOf(request);
            if (claim.GuestNuma.Kind == GuestNumaKind.None || policy == NumaPolicy.Preferred && !strict)
                return true;
            bool unknownSocket = node.Sockets.Values.Any(s => s is null);
            if (claim.GuestNuma.Kind == GuestNumaKind.Unknown)
            {
                return policy switch
                {
                    NumaPolicy.Legacy => true,
                    NumaPolicy.Socket => numa == guestNode || (numa is { } n && !unknownSocket && node.Sockets[n] == guestSocket),
                    _ => numa == guestNode,
                };
            }
            IReadOnlyList<int> cells = claim.GuestNuma.Nodes;
            return policy switch
            {
                NumaPolicy.Legacy => numa is null || cells.Contains(numa.Value),
                NumaPolicy.Socket => numa is { } n && (cells.Contains(n)
                    || (!unknownSocket && cells.Any(c => node.Sockets.TryGetValue(c, out int? s) && s == node.Sockets[n]))),
                _ => numa is { } n && cells.Contains(n),
            };
        }

        private bool Assign(int request, int unit, int from, bool strict)
        {
            if (request == requests.Length)
                return Consistent();
            if (unit == requests[request].Count)
                return Assign(request + 1, 0, 0, strict);
            for (int i = from; i < devices.Length; i++)
            {
                PciAddress address = devices[i].Function.Address;
                if (taken.ContainsKey(address) || !Allowed(requests[request], devices[i], strict))
                    continue;
                taken[address] = requests[request].Name;
                if (Consistent() && Assign(request, unit + 1, i + 1, strict))
                    return true;
                taken.Remove(address);
            }
            return false;
        }

        // No VF whose PF goes with the claim, be it as a companion.
        private bool Consistent()
        {
            HashSet<int> groups = [.. taken.Keys.Select(a => node.Find(a)!.Function.IommuGroup!.Value)];
            return !taken.Keys.Any(a => node.Find(a)!.Function is { IsVirtual: true, ParentAddress: { } pf }
                && node.Find(pf)?.Function is { IommuGroup: { } g, IsBridge: false } && groups.Contains(g));
        }

        private NodeAllocation Result(bool? preference)
        {
            HashSet<int> groups = [.. taken.Keys.Select(a => node.Find(a)!.Function.IommuGroup!.Value)];
            List<PciFunction> members = [.. node.Devices.Select(d => d.Function).Where(f => !f.IsBridge && f.IommuGroup is { } g && groups.Contains(g))];
            HashSet<PciAddress> present = [.. members.Select(f => f.Address)];
            return new NodeAllocation
            {
                Node = node.Name,
                Devices = [.. members.Where(f => !(f.IsVirtual && f.ParentAddress is { } pf && present.Contains(pf)))
                    .Select(f => new AllocatedDevice(f.Address, taken.GetValueOrDefault(f.Address, ""), !taken.ContainsKey(f.Address)))],
                NumaNodes = [.. taken.Keys.Select(a => node.Find(a)!.Function.NumaNode).OfType<int>().Distinct().Order()],
                NumaPreferenceMet = preference,
            };
        }
    }
}

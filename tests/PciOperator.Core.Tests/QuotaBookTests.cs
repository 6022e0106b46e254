namespace PciOperator.Core.Tests;

/// <summary>What counts against limits in a namespace.</summary>
public sealed class QuotaBookTests
{
    private static readonly DeviceLimit[] Limits = [new("gpu", 4), new(DeviceCounts.All, 6)];

    [Fact]
    public void A_claim_counts_once_however_many_places_know_of_it()
    {
        var book = new QuotaBook();
        Assert.True(book.Add("a", Of(("gpu", 3))));
        Assert.False(book.Add("a", Of(("gpu", 3))));
        Assert.Equal(3, book.Used.Of("gpu"));
        Assert.Null(book.WhyNot(Limits, [("a", Of(("gpu", 3)))]));
        Assert.Null(book.WhyNot(Limits, [("b", Of(("gpu", 1)))]));
        Assert.Equal(new QuotaExcess(Limits[0], 3, 2), book.WhyNot(Limits, [("b", Of(("gpu", 2)))]));
    }

    [Fact]
    public void Claims_that_are_placed_together_are_counted_together()
    {
        var book = new QuotaBook();
        Assert.NotNull(book.WhyNot(Limits, [("a", Of(("gpu", 3))), ("b", Of(("gpu", 2)))]));
        Assert.Null(book.WhyNot(Limits, [("a", Of(("gpu", 3))), ("b", Of(("nic", 2)))]));
    }

    [Fact]
    public void The_limit_of_all_counts_every_alias_and_devices_of_which_none_is_known()
    {
        var book = new QuotaBook();
        var unknown = new DeviceCounts();
        unknown.Add(null, 2);
        book.Add("gone", unknown);
        book.Add("a", Of(("nic", 3), ("gpu", 1)));
        Assert.Equal(new QuotaExcess(Limits[1], 6, 1), book.WhyNot(Limits, [("b", Of(("disk", 1)))]));
        Assert.Equal([("gone", 2), ("a", 4)], book.Of(DeviceCounts.All));
    }

    [Fact]
    public void A_limit_that_is_exceeded_keeps_nobody_from_what_it_is_not_about()
    {
        var book = new QuotaBook();
        book.Add("a", Of(("gpu", 5)));
        Assert.Null(book.WhyNot([Limits[0]], [("b", Of(("nic", 1)))]));
        Assert.Null(book.WhyNot([Limits[0]], [("a", Of(("gpu", 5)))]));
        Assert.NotNull(book.WhyNot([new("none", 0)], [("b", Of(("none", 1)))]));
    }

    [Fact]
    public void What_a_namespace_uses_is_the_sum_of_its_claims_and_refused_are_those_that_would_go_beyond()
    {
        var random = new Random(20261130);
        string[] aliases = ["gpu", "nic", "disk"];
        for (int round = 0; round < 200; round++)
        {
            var limits = aliases.Append(DeviceCounts.All).Select(a => new DeviceLimit(a, random.Next(0, 20))).ToList();
            var book = new QuotaBook();
            var held = new List<(string Alias, int Devices)>();
            for (int i = 0; i < 30; i++)
            {
                (string Alias, int Devices) wish = (aliases[random.Next(3)], random.Next(1, 5));
                bool fits =
                    held.Where(h => h.Alias == wish.Alias).Sum(h => h.Devices) + wish.Devices
                        <= limits.Single(l => l.Alias == wish.Alias).Devices
                    && held.Sum(h => h.Devices) + wish.Devices <= limits[^1].Devices;
                Assert.Equal(fits, book.WhyNot(limits, [($"c{i}", Of(wish))]) is null);
                if (!fits)
                    continue;
                book.Add($"c{i}", Of(wish));
                held.Add(wish);
            }
        }
    }

    private static DeviceCounts Of(params (string Alias, int Devices)[] asked)
    {
        var counts = new DeviceCounts();
        foreach ((string alias, int devices) in asked)
            counts.Add(alias, devices);
        return counts;
    }
}

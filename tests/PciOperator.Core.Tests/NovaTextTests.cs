using PciOperator.Nova;

namespace PciOperator.Core.Tests;

/// <summary>Nova's texts where they are read as Python reads them.</summary>
public class NovaTextTests
{
    [Theory]
    [InlineData("""{"vendor_id": "zz", "product_id": 5}""", "vendor_id")]
    [InlineData("""{"vendor_id": "10000", "address": ["x"]}""", "vendor_id")]
    [InlineData("""{"product_id": "zz", "address": {"bus": 10}}""", "product_id")]
    [InlineData("""{"devname": "eth0", "address": ["x"]}""", "devname")]
    [InlineData("""{"address": "zz:", "managed": "perhaps"}""", "address")]
    public void Of_several_errors_in_a_spec_the_first_in_Novas_order_is_named(string spec, string field) =>
        Assert.Equal(field, Assert.Throws<SpecFormatException>(() => NovaDeviceSpec.Parse(spec)).Field);

    [Theory]
    [InlineData("""{"vendor_id": "zz"}""", "name")]
    [InlineData("""{"name": "", "vendor_id": "zz", "product_id": "zz"}""", "vendor_id")]
    [InlineData("""{"name": "", "product_id": "zz", "capability_type": "x"}""", "product_id")]
    [InlineData("""{"name": 1, "traits": 1}""", "traits")]
    [InlineData("""{"name": "a1", "numa_policy": "x", "device_type": null}""", "numa_policy")]
    [InlineData("""{"name": "a1", "live_migratable": "maybe", "capability_type": "x"}""", "capability_type")]
    public void Of_several_errors_in_an_alias_the_last_by_name_is_named(string alias, string field) =>
        Assert.Equal(field, Assert.Throws<SpecFormatException>(() => NovaAlias.Parse(alias)).Field);

    [Fact]
    public void An_alias_name_has_256_characters_however_they_are_stored()
    {
        string name = string.Concat(Enumerable.Repeat("\U0001F600", 256));
        Assert.Equal(name, NovaAlias.Parse($$"""{"name": "{{name}}"}""").Name);
        Assert.Throws<SpecFormatException>(() => NovaAlias.Parse($$"""{"name": "{{name}}x"}"""));
    }

    [Fact]
    public void An_alias_id_in_digits_of_another_script_is_an_id_of_no_device()
    {
        var alias = NovaAlias.Parse("""{"name": "a1", "vendor_id": "８０８６", "product_id": "10ca"}""");
        Assert.False(NovaAlias.Join([alias])["a1"].Matches(Function("0000:10:00.0", DeviceType.Pci), DeviceTags.None));
    }

    [Theory]
    [InlineData(@"\z")]
    [InlineData(@"\e")]
    [InlineData(@"\p{Nd}")]
    [InlineData("(?<n>0)")]
    [InlineData("(?'n'0)")]
    [InlineData(@"[\d-a]")]
    [InlineData("^*")]
    [InlineData("0$?")]
    [InlineData(@"\b{2}")]
    [InlineData(@"\Z{,2}")]
    public void What_is_no_expression_in_Python_is_none_here(string expression)
    {
        SpecFormatException e = Assert.Throws<SpecFormatException>(() => NovaDeviceSpec.Parse(Spec(expression)));
        Assert.Equal("address", e.Field);
    }

    [Theory]
    [InlineData("^1", true)]
    [InlineData("10$", true)]
    [InlineData(@"10\Z", true)]
    [InlineData("(?P<n>1)0", true)]
    [InlineData("(?<=1)0", false)]
    [InlineData("1(?<=1)0", true)]
    [InlineData("^{", false)]
    [InlineData(@"[\d-]", true)]
    [InlineData("[^*]", true)]
    [InlineData("[]^$*1]", true)]
    [InlineData(@"[\]*1]", true)]
    [InlineData("1{,2}0", true)]
    public void What_is_an_expression_in_Python_matches_as_there(string expression, bool matches) =>
        Assert.Equal(matches, Matches(Spec(expression), Function("0000:10:00.0", DeviceType.Pci)));

    [Fact]
    public void An_empty_policy_of_a_flavor_is_none_and_one_of_an_image_is_an_error()
    {
        Assert.Null(NovaRequestString.EffectivePolicy("", null));
        Assert.Equal(NumaPolicy.Socket, NovaRequestString.EffectivePolicy("", "socket"));
        Assert.Equal("numa_policy", Assert.Throws<SpecFormatException>(() => NovaRequestString.EffectivePolicy(null, "")).Field);
    }

    [Fact]
    public void A_card_serial_of_blanks_is_a_serial()
    {
        const string spec = """{"remote_managed": "true"}""";
        PciFunction vf = Function("0000:10:02.0", DeviceType.Vf, "0000:10:00.0");
        Assert.False(Matches(spec, vf with { CardSerial = "" }));
        Assert.True(Matches(spec, vf with { CardSerial = " " }));
    }

    [Fact]
    public void A_remote_managed_PF_is_meant_where_its_VFs_have_its_product_id_and_that_is_given()
    {
        PciFunction pf = Function("0000:10:00.0", DeviceType.Pf) with
        {
            NetDevice = "eth0",
            CardSerial = "SN1",
            VfProductId = PciId.Parse("10ca"),
        };
        Assert.True(Matches("""{"devname": "eth0", "remote_managed": "true", "product_id": "10ca"}""", pf));
        Assert.False(
            Matches(
                """{"devname": "eth0", "remote_managed": "true", "product_id": "10ca"}""",
                pf with
                {
                    VfProductId = PciId.Parse("10ed"),
                }
            )
        );
        Assert.False(Matches("""{"devname": "eth0", "remote_managed": "true"}""", pf));
    }

    [Fact]
    public void A_devname_means_the_VFs_of_the_PF_that_has_it_now()
    {
        const string spec = """{"devname": "eth0"}""";
        PciFunction pf = Function("0000:10:00.0", DeviceType.Pf) with { NetDevice = "eth0" };
        PciFunction vf = Function("0000:10:02.0", DeviceType.Vf, "0000:10:00.0") with { ParentNetDevice = "eth0" };
        Assert.True(Matches(spec, vf, pf));
        Assert.False(Matches(spec, vf));
        Assert.False(Matches(spec, vf, pf with { NetDevice = null }));
    }

    private static string Spec(string bus) => $$$"""{"address": {"bus": "{{{bus.Replace(@"\", @"\\", StringComparison.Ordinal)}}}"}}""";

    private static bool Matches(string spec, params PciFunction[] host) =>
        DeviceMatcher.Match(host, NovaDeviceSpec.Parse(spec)).ContainsKey(host[0].Address);

    private static PciFunction Function(string address, DeviceType type, string? pf = null) =>
        new()
        {
            Address = PciAddress.Parse(address),
            VendorId = PciId.Parse("8086"),
            ProductId = PciId.Parse("10ca"),
            Type = type,
            ParentAddress = pf is null ? null : PciAddress.Parse(pf),
        };
}

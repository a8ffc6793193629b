"""Susceptibilities and Green functions against closed forms, causality, and errors against brute force."""

import numpy as np
import pytest
import xarray as xr

from gfdt.errors import InputError, ReliabilityWarning
from gfdt.forcing.green import green_function
from gfdt.forcing.kramers_kronig import kramers_kronig_departure, kramers_kronig_of_response
from gfdt.forcing.predict import predict
from gfdt.forcing.spline import fourier_weights
from gfdt.forcing.susceptibility import susceptibility
from tests.reference.linear_sde import DRIFT, exact_response

LAG = np.linspace(0.0, 20.0, 201)


def scalar(values=None, lag=LAG):
    return xr.DataArray(np.exp(-lag) if values is None else values, dims="lag", coords={"lag": lag}, name="response")


def value(chi):
    return chi["real"] + 1j * chi["imag"]


def with_influence(response, n_units=7, seed=0):
    errors = np.random.default_rng(seed).standard_normal((n_units, *response.shape)) * 1e-4
    out = response.to_dataset(name="response").assign_attrs(confidence=0.95)
    out["stderr"] = (response.dims, np.sqrt(n_units / (n_units - 1) * (errors**2).sum(axis=0)))
    out["influence"] = (("unit", *response.dims), errors)
    return out


def test_susceptibility_of_a_relaxing_variable():
    omega = np.array([0.0, 0.3, 1.0, 10.0, 300.0, 1e5])
    with pytest.warns(ReliabilityWarning, match=r"up to 1e\+05 are asked for.* = 31\.42"):
        chi = susceptibility(scalar(), omega)
    exact = 1 / (1 - 1j * omega)
    # spline of R at h = 0.1 (measured 2e-6 of |chi| at worst), far beyond the Nyquist frequency 31 of the lags too
    np.testing.assert_allclose(value(chi), exact, rtol=5e-6)
    np.testing.assert_allclose(chi["amplitude"], np.abs(exact), rtol=5e-6)
    np.testing.assert_allclose(chi["phase"], np.angle(exact), atol=5e-6)
    assert (chi["phase"] >= 0).all()  # a delay


def test_susceptibility_of_a_non_normal_system_is_its_resolvent():
    lag = np.linspace(0, 120, 1201)
    labels = ("component", "component_src")
    R = xr.DataArray(exact_response(lag), dims=("lag", *labels), coords={"lag": lag})
    omega = np.array([0.0, 0.5, 3.0])
    chi = susceptibility(R, omega)
    exact = [np.linalg.inv(-1j * w * np.eye(4) - DRIFT) for w in omega]
    assert chi["real"].dims == ("frequency", *labels)
    np.testing.assert_allclose(value(chi), exact, atol=3e-5)  # h^4 at h = 0.1


def test_default_frequencies_reach_the_nyquist_frequency_of_the_lags():
    chi = susceptibility(scalar())
    assert chi.sizes["frequency"] == LAG.size
    assert float(chi.frequency[-1]) == pytest.approx(np.pi / 0.1)
    assert chi.frequency.attrs["units"] == "rad / time units"


def test_an_oscillating_forcing_is_answered_with_chi():
    """The sign convention: a forcing Re exp(-i w t) gives, once settled, Re chi exp(-i w t)."""
    R, w = scalar(LAG * np.exp(-LAG)), 1.3
    time = np.linspace(30.0, 36.0, 25)
    got = predict(R, lambda t: np.cos(w * t), time).prediction
    chi = complex(value(susceptibility(R, [w]))[0])
    np.testing.assert_allclose(got, (chi * np.exp(-1j * w * time)).real, atol=1e-5)


def test_fourier_weights_are_exact_for_cubics_at_every_frequency():
    lag = np.array([0.0, 0.4, 1.0, 1.7, 2.0])
    nodes, gauss = np.polynomial.legendre.leggauss(400)
    t = (nodes + 1) * lag[-1] / 2
    cubic = np.polynomial.Polynomial([1.0, -2.0, 0.5, 0.3])
    for omega in (0.0, 1e-7, 1.0, 5.99 / 0.4, 6.01 / 0.4, 150.0, -3.0):
        exact = (gauss * cubic(t)) @ np.exp(1j * omega * t) * lag[-1] / 2
        got = fourier_weights(lag, np.array([omega])) @ cubic(lag)
        assert abs(got[0] - exact) < 1e-12


@pytest.mark.parametrize(
    "values", [np.exp(-LAG), np.exp(-0.3 * LAG) * np.cos(3 * LAG), LAG * np.exp(-LAG), np.exp(-0.05 * LAG)]
)
def test_kramers_kronig_holds_for_causal_responses(values):
    # measured 2e-6 or less (the oscillation; 2e-7 the others), also where R is cut off long before it has decayed
    assert kramers_kronig_of_response(LAG, values[:, None]) < 5e-6


def test_kramers_kronig_detects_a_wrong_sign_and_a_response_before_its_cause():
    assert kramers_kronig_of_response(LAG, np.exp(-LAG)[:, None], sign=-1) == pytest.approx(2.0, abs=1e-3)
    omega = np.linspace(0, 200, 8001)
    real, imag = 1 / (1 + omega**2), omega / (1 + omega**2)
    assert kramers_kronig_departure(omega, real, imag) < 1e-5
    # one per cent of exp(t) at t < 0: its chi has the same real part, the opposite imaginary part
    assert kramers_kronig_departure(omega, 1.01 * real, 0.99 * imag) == pytest.approx(0.02 / 1.01, rel=1e-2)
    assert kramers_kronig_departure(omega, real, imag + 0.01 * omega * np.exp(-(omega**2))) > 1e-3
    with pytest.raises(InputError, match="at least eight uniform frequencies"):
        kramers_kronig_departure(omega[1:], real[1:], imag[1:])


def test_the_result_carries_its_kramers_kronig_departure():
    assert susceptibility(scalar()).attrs["kramers_kronig"] < 1e-6


def test_a_response_that_is_cut_off_is_warned_of():
    # 1/omega_c = 10 against T = 20: int_T^inf R is exp(-2) of the whole
    with pytest.warns(ReliabilityWarning, match="has not decayed"):
        chi = susceptibility(scalar(np.exp(-LAG / 10)), [0.0])
    assert chi.attrs["truncated_tail"] == pytest.approx(np.exp(-2) / (1 - np.exp(-2)), rel=0.05)
    assert susceptibility(scalar(), [0.0]).attrs["truncated_tail"] < 1e-6


def test_a_taper_takes_the_ringing_of_the_cut_away():
    R = scalar(np.exp(-LAG / 10))
    omega = np.linspace(3.0, 6.0, 200)
    exact = 1 / (0.1 - 1j * omega)
    with pytest.warns(ReliabilityWarning):
        errors = [np.abs(value(susceptibility(R, omega, taper=taper)).values - exact).max() for taper in (0.0, 0.5)]
    assert errors[1] < 0.1 * errors[0]
    with pytest.raises(InputError, match="taper"):
        susceptibility(R, taper=1.5)


def test_errors_of_the_parts_amplitude_and_phase():
    R = with_influence(scalar())
    chi = susceptibility(R, [0.0, 1.0, 5.0])
    plain = value(susceptibility(R.response, [0.0, 1.0, 5.0])).values
    moved = np.array(
        [value(susceptibility(R.response + R.influence.isel(unit=u), [0.0, 1.0, 5.0])).values for u in range(7)]
    )
    e = moved - plain
    for name, errors in (
        ("real", e.real),
        ("imag", e.imag),
        ("amplitude", np.abs(moved) - np.abs(plain)),
        ("phase", np.angle(moved / plain)),
    ):
        brute = np.sqrt(7 / 6 * (errors**2).sum(axis=0))
        # the first two are linear; amplitude and phase to first order in errors of 0.01 to 0.2 %
        np.testing.assert_allclose(
            chi[f"{name}_stderr"], brute, rtol=1e-8 if name in ("real", "imag") else 0.01, atol=1e-9
        )
        assert (chi[f"{name}_lower"] <= chi[name]).all()
    bound = susceptibility(R.drop_vars("influence"), [0.0, 1.0, 5.0])
    assert (bound["real_stderr"] > chi["real_stderr"]).all()


def test_the_phase_of_nothing_can_be_anything():
    R = with_influence(scalar(np.zeros_like(LAG)))
    np.testing.assert_allclose(susceptibility(R, [1.0])["phase_stderr"], np.pi)


# ---- Green function


def advected(shape=(5, 8), lag=LAG):
    """du/dt = -(1 + |k|^2/4) u - advection: its response at displacement r, and G in closed form."""
    ky, kx = (np.fft.fftfreq(n, 1 / n) for n in shape)
    rate = 1 + (ky[:, None] ** 2 + kx**2) / 4 + 0.7j * np.where(np.abs(kx) == shape[1] / 2, 0.0, kx)
    field = np.fft.ifft2(np.exp(-rate * lag[:, None, None])).real
    coords = {"lag": lag, "dy": np.arange(shape[0]) - shape[0] // 2, "dx": np.arange(shape[1]) - shape[1] // 2}
    R = xr.DataArray(np.fft.fftshift(field, axes=(1, 2)), dims=("lag", "dy", "dx"), coords=coords, name="response")
    return R, np.fft.fftshift(rate)


def test_green_function_of_an_advected_field():
    lag = np.linspace(0, 20, 801)
    R, rate = advected(lag=lag)
    omega = np.array([0.0, 1.0, 4.0])
    G = green_function(R, omega)
    assert G["real"].dims == ("frequency", "ky", "kx")
    assert G.kx.values.tolist() == [-4, -3, -2, -1, 0, 1, 2, 3]
    # h^4 of the fastest mode, rate 6: 0.025^4 * 6^4 / 700
    np.testing.assert_allclose(value(G), 1 / (rate - 1j * omega[:, None, None]), atol=3e-6)


@pytest.mark.parametrize("shape", [(5, 8), (4, 3)])
def test_the_inverse_transform_is_the_susceptibility_in_space(shape):
    R, _ = advected(shape)
    G, chi = green_function(R, [0.5, 2.0]), susceptibility(R, [0.5, 2.0])
    back = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(value(G).values, axes=(1, 2))), axes=(1, 2))
    np.testing.assert_allclose(back, value(chi).values, atol=1e-14)


def test_a_plane_wave_of_forcing_is_answered_with_g():
    R, _ = advected()
    y, x = np.mgrid[:5, :8]
    time = np.linspace(0, 12, 2401)
    phase = 2 * np.pi * (1 * y / 5 + 2 * x / 8) - 1.5 * time[:, None, None]
    drive = xr.DataArray(np.cos(phase), dims=("time", "y", "x"), coords={"time": time})
    got = predict(R, drive, [12.0]).prediction.values[0]
    G = complex(value(green_function(R, [1.5])).sel(ky=1, kx=2)[0])
    np.testing.assert_allclose(got, (G * np.exp(1j * phase[-1])).real, atol=1e-4)  # f linear between samples, and R(12)


def test_errors_of_the_green_function():
    R = with_influence(advected(lag=LAG[::4])[0])
    G = green_function(R, [0.0, 2.0])
    plain = value(green_function(R.response, [0.0, 2.0]))
    moved = [value(green_function(R.response + R.influence.isel(unit=u), [0.0, 2.0])) - plain for u in range(7)]
    np.testing.assert_allclose(G["real_stderr"], np.sqrt(7 / 6 * sum(m.values.real**2 for m in moved)), rtol=1e-8)
    np.testing.assert_allclose(
        G["imag_stderr"], np.sqrt(7 / 6 * sum(m.values.imag**2 for m in moved)), rtol=1e-8, atol=1e-15
    )
    bound = green_function(R.drop_vars("influence"), [0.0, 2.0])
    assert (bound["real_stderr"].values >= G["real_stderr"].values).all()


def test_what_has_no_displacements_has_no_green_function():
    with pytest.raises(InputError, match="without displacements"):
        green_function(scalar())


@pytest.mark.parametrize("bad", [["a"], [np.nan], []])
def test_frequencies_must_be_finite_numbers(bad):
    with pytest.raises(InputError, match="frequencies"):
        susceptibility(scalar(), bad)


def test_spectra_go_through_netcdf(tmp_path):
    R, _ = advected((4, 3), LAG[::8])
    for name, item in (("chi", susceptibility(R)), ("g", green_function(R))):
        item.to_netcdf(tmp_path / f"{name}.nc")
        with xr.open_dataset(tmp_path / f"{name}.nc") as back:
            xr.testing.assert_allclose(back, item)
